// States and levels as small marks. Color never stands alone: each has its word or its shape.
import type { ServiceState } from '../api/types';

export type Tone = 'ok' | 'warn' | 'bad' | 'busy' | 'idle';

const STATE_TONE: Record<ServiceState, Tone> = {
  ready: 'ok',
  degraded: 'warn',
  failed: 'bad',
  building: 'busy',
  waiting: 'busy',
  starting: 'busy',
};

export function toneOf(state: string | null): Tone {
  if (state === null) return 'idle';
  if (state in STATE_TONE) return STATE_TONE[state as ServiceState];
  if (['crash_loop', 'firing', 'backing_off', 'error', 'fatal', 'interrupted', 'out', 'open'].includes(state)) return 'bad';
  if (['unready', 'pending', 'warn', 'probation', 'kept', 'half_open'].includes(state)) return 'warn';
  if (['succeeded', 'done', 'resolved', 'ok'].includes(state)) return 'ok';
  if (['running', 'queued'].includes(state)) return 'busy';
  return 'idle';
}

export function Dot({ tone }: { tone: Tone }) {
  return <span className={`dot dot-${tone}`} aria-hidden="true" />;
}

export function State({ state }: { state: string }) {
  const tone = toneOf(state);
  return (
    <span className={`state tone-${tone}`}>
      <Dot tone={tone} />
      {state.replace(/_/g, ' ')}
    </span>
  );
}

export function LevelMark({ level }: { level: string | null }) {
  return <span className={`level level-${level ?? 'none'}`}>{level ?? '·'}</span>;
}

export function Tag({ children, tone }: { children: string; tone?: Tone }) {
  return <span className={tone ? `tag tag-${tone}` : 'tag'}>{children}</span>;
}
