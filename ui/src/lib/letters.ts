// Dead letters by what they died of, the largest group first.
import type { LetterView } from '../api/types';

export interface LetterGroup {
  group: string;
  service: string;
  topic: string;
  reason: string;
  letters: LetterView[];
  newest: string;
}

export function grouped(letters: LetterView[]): LetterGroup[] {
  const groups = new Map<string, LetterGroup>();
  for (const letter of letters) {
    const key = `${letter.service}/${letter.topic}/${letter.group}`;
    const own = groups.get(key);
    if (own) {
      own.letters.push(letter);
      if (letter.died > own.newest) own.newest = letter.died;
    } else {
      groups.set(key, { group: letter.group, service: letter.service, topic: letter.topic, reason: letter.reason, letters: [letter], newest: letter.died });
    }
  }
  return [...groups.values()].sort((a, b) => b.letters.length - a.letters.length);
}
