// What the node can be asked, by its OpenAPI document: which paths there are, what goes into them,
// what is sent and what comes back. A path that is not there, a parameter that is missing or unknown,
// a body or an answer of another form is a mistake of the compiler.
import type { paths } from '../../made/schema';

export type Method = 'GET' | 'POST' | 'DELETE';
type Operation<M extends Method, P extends keyof paths> = paths[P][Lowercase<M>];

/** Paths that know this method. */
export type PathOf<M extends Method> = { [P in keyof paths]: Operation<M, P> extends object ? P : never }[keyof paths];

/** What may be left out may also be undefined. */
type Loose<T> = { [K in keyof T]: T[K] | (Partial<Pick<T, K>> extends Pick<T, K> ? undefined : never) };
type Parameters<O, Place extends string> = O extends { parameters: Partial<Record<Place, infer T>> } ? ([T] extends [never] ? unknown : Loose<T>) : unknown;

/** What goes into the path and its query, together. */
export type Given<M extends Method, P extends keyof paths> = Parameters<Operation<M, P>, 'path'> & Parameters<Operation<M, P>, 'query'>;

/** `T`, if it has nothing that `Allowed` has not. */
export type Only<T, Allowed> = T & Record<Exclude<keyof T, keyof Allowed>, never>;

/** Paths that need nothing. */
export type BarePath<M extends Method> = { [P in PathOf<M>]: Partial<Given<M, P>> extends Given<M, P> ? P : never }[PathOf<M>];

type ContentOf<O> = O extends { requestBody: { content: { 'application/json': infer T } } } ? T : never;
/** What is sent: nothing, or one thing. */
export type BodyOf<M extends Method, P extends keyof paths> = [ContentOf<Operation<M, P>>] extends [never] ? [] : [body: ContentOf<Operation<M, P>>];

type Success<O> = O extends { responses: infer R } ? R[keyof R & (200 | 201 | 202 | 204)] : never;
type Contents<O> = Success<O> extends { content: infer C } ? C : never;
/** How the answer comes: as JSON, as lines, as events. */
export type KindOf<M extends Method, P extends keyof paths> = keyof Contents<Operation<M, P>>;
/** The answer; of lines each one, of events those that there are, by their names. */
export type AnswerOf<M extends Method, P extends keyof paths> = [KindOf<M, P>] extends [never] ? undefined : Contents<Operation<M, P>>[KindOf<M, P>];

declare const answer: unique symbol;
/** What is known, when compiling, of what it brings. */
export interface Brings<Kind, Answer> {
  readonly [answer]: [Kind, Answer];
}
/** An address of the API. It is made by `at` only. */
export type Url<Kind, Answer> = string & Brings<Kind, Answer>;
type UrlOf<P extends PathOf<'GET'>> = Url<KindOf<'GET', P>, AnswerOf<'GET', P>>;

/** The address of what can be got. What is given and empty is left out of the query. */
export function at<P extends BarePath<'GET'>>(path: P): UrlOf<P>;
export function at<P extends PathOf<'GET'>, G extends Given<'GET', P>>(path: P, given: Only<G, Given<'GET', P>>): UrlOf<P>;
export function at(path: string, given: object = {}): string {
  return fill(path, given);
}

/** A path with what is given: in its braces, or behind it as a query. */
export function fill(path: string, given: object): string {
  const rest = new Map<string, unknown>(Object.entries(given));
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = String(rest.get(name));
    rest.delete(name);
    return encodeURIComponent(value);
  });
  const query = [...rest].filter(([, value]) => value !== undefined && value !== null && value !== '');
  if (query.length === 0) return filled;
  return `${filled}?${new URLSearchParams(query.map(([name, value]) => [name, String(value)])).toString()}`;
}
