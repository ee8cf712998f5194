// One way to ask the node. Every failure becomes an `ApiError` with a problem's detail, so that
// pages show what the node said; every change carries the CSRF token; a 401 tells the app to show
// the login page. No retries: a page that polls asks again anyway.
import { at, fill, type AnswerOf, type BodyOf, type Brings, type Given, type KindOf, type PathOf, type Url } from './paths';
import type { Me, Problem } from './types';

export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail === '' ? problem.title : problem.detail);
  }
  get status(): number {
    return this.problem.status;
  }
}

let csrf = '';
let onLoggedOut: () => void = () => undefined;

/** What is called when the node does not know us (any more). */
export function whenLoggedOut(then: () => void): void {
  onLoggedOut = then;
}

export async function get<T>(url: Url<'application/json', T>, signal?: AbortSignal): Promise<T> {
  const answer = await open(url, signal);
  return (await answer.json()) as T;
}

/** A change. Answers without a body give undefined. */
export async function send<M extends 'POST' | 'DELETE', P extends PathOf<M>>(method: M, path: P, given: Given<M, P>, ...[body]: BodyOf<M, P>): Promise<AnswerOf<M, P>> {
  const answer = await change(method, fill(path, given as object), body);
  const text = await answer.text();
  return (text === '' ? undefined : JSON.parse(text)) as AnswerOf<M, P>;
}

/** A change whose answer is read as it comes. */
export function sendAndRead<P extends PathOf<'POST'>>(path: P, given: Given<'POST', P>, body: BodyOf<'POST', P>[0], signal: AbortSignal): Promise<Response & Brings<KindOf<'POST', P>, AnswerOf<'POST', P>>> {
  return change('POST', fill(path, given as object), body, signal) as Promise<Response & Brings<KindOf<'POST', P>, AnswerOf<'POST', P>>>;
}

function change(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { 'X-Atoll-CSRF': csrf };
  const init: RequestInit = { method, headers };
  if (body !== undefined) {
    headers['Content-Type'] = 'application/json';
    init.body = JSON.stringify(body);
  }
  if (signal) init.signal = signal;
  return ask(path, init);
}

/** Who is logged in; null if nobody is. */
export async function me(signal?: AbortSignal): Promise<Me | null> {
  const found = await get(at('/session'), signal);
  csrf = found?.csrf ?? '';
  return found;
}

/** An answer that is read as it comes. */
export function open<Kind, T>(url: Url<Kind, T>, signal?: AbortSignal): Promise<Response & Brings<Kind, T>> {
  return ask(url, signal ? { signal } : {}) as Promise<Response & Brings<Kind, T>>;
}

async function ask(path: string, init: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, { ...init, credentials: 'same-origin' });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError({ title: 'No answer', status: 0, detail: 'The node does not answer. Is it running?' });
  }
  if (answer.ok) return answer;
  const problem = await problemOf(answer);
  if (answer.status === 401 && path !== '/session') onLoggedOut();
  throw new ApiError(problem);
}

async function problemOf(answer: Response): Promise<Problem> {
  const plain: Problem = { title: answer.statusText || 'Error', status: answer.status, detail: '' };
  const text = await answer.text();
  try {
    return { ...plain, ...(JSON.parse(text) as Partial<Problem>) };
  } catch {
    // The HTTP library answers some mistakes with a line of plain text.
    return { ...plain, detail: text.slice(0, 500) };
  }
}

/** What to tell of whatever was thrown. */
export function told(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function aborted(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}
