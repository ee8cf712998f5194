// A journal: the smallest database there is. One line of JSON per fact, only ever appended; the
// state is what one gets by reading it from the start.
//
// Its three rules:
// 1. Acknowledged means on disk: a write is answered after fdatasync. Writes that arrive while one
//    is on its way share the next one ("group commit"), so many cost hardly more than one.
// 2. A key counts once: a line whose key was seen before is skipped when read. This, and not a
//    check before writing, is what makes repetition harmless: it holds even between two processes
//    that append at the same moment, because all readers see the same first line.
// 3. Others may append too. While a new revision replaces the old one both run for a moment, so
//    before every answer the journal reads on from where it stopped.

import { open } from "node:fs/promises";

export class Journal {
  #file;
  #apply;
  #read = 0; // bytes that were applied
  #keys = new Set();
  #waiting = []; // lines that the next write takes along
  #broken = null; // after a failed write nothing is acknowledged any more
  #queue = Promise.resolve(); // one thing at a time on the file

  /** `apply(fact)` is called once for each fact, in the order of the file. */
  static async open(path, apply) {
    const journal = new Journal();
    journal.#apply = apply;
    journal.#file = await open(path, "a+"); // O_APPEND: every write goes to the end, whole
    await journal.catchUp();
    return journal;
  }

  /** Applies what was appended since the last time, by anybody. */
  catchUp() {
    return this.#inTurn(async () => {
      const { size } = await this.#file.stat();
      if (size === this.#read) return;
      const { buffer, bytesRead } = await this.#file.read(Buffer.alloc(size - this.#read), 0, size - this.#read, this.#read);
      // Only whole lines: the last one may be on its way still.
      const end = buffer.subarray(0, bytesRead).lastIndexOf("\n") + 1;
      for (const line of buffer.toString("utf8", 0, end).split("\n")) this.#take(line);
      this.#read += end;
    });
  }

  #take(line) {
    if (!line) return;
    let fact;
    try {
      fact = JSON.parse(line);
    } catch {
      return; // torn by a crash: it was never acknowledged, so nobody relies on it
    }
    if (this.#keys.has(fact.key)) return;
    this.#keys.add(fact.key);
    this.#apply(fact);
  }

  /** Resolves when the fact is on disk and applied. */
  async append(fact) {
    this.#waiting.push(fact);
    await this.#inTurn(async () => {
      if (this.#broken) throw this.#broken;
      const facts = this.#waiting.splice(0);
      if (!facts.length) return; // an earlier turn took ours along
      // The newline in front ends a line that a crash has torn off; empty lines are skipped.
      try {
        await this.#file.appendFile(facts.map((each) => `\n${JSON.stringify(each)}\n`).join(""));
        await this.#file.datasync();
      } catch (error) {
        throw (this.#broken = error); // also for those whose facts went along
      }
    });
    await this.catchUp();
  }

  #inTurn(work) {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => {}); // a failure is its caller's; the next turn still comes
    return done;
  }
}
