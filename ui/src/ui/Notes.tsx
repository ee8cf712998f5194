// What is shown in place of content: nothing there, not yet there, or a failure. Each says what to
// do next.
import type { ReactNode } from 'react';
import type { ApiError } from '../api/client';
import { Icon } from './Icon';

/** With `page` it is all there is on the page, and its title is the page's. */
export function Empty({ title, children, page = false }: { title: string; children?: ReactNode; page?: boolean }) {
  return (
    <div className="note">
      {page ? <h1 className="note-title">{title}</h1> : <p className="note-title">{title}</p>}
      {children !== undefined && <div className="note-text">{children}</div>}
    </div>
  );
}

export function Failure({ error, retry }: { error: ApiError; retry?: () => void }) {
  return (
    <div className="note note-bad" role="alert">
      <p className="note-title">
        <Icon name="warn" /> {error.problem.title || 'Error'}
      </p>
      <div className="note-text">
        <p>{error.message}</p>
        {error.problem.code !== undefined && (
          <p>
            <code>atoll explain {error.problem.code}</code> tells more.
          </p>
        )}
        {retry && (
          <button type="button" className="btn" onClick={retry}>
            Try again
          </button>
        )}
      </div>
    </div>
  );
}

/** Gray bars where rows will be. They appear late, so that fast answers do not blink. */
export function Loading({ rows = 6 }: { rows?: number }) {
  return (
    <div className="loading" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, at) => (
        <div key={at} className="loading-row" />
      ))}
    </div>
  );
}

interface Answer<T> {
  data: T | undefined;
  error: ApiError | undefined;
  reload: () => void;
}

/** The content when there is one; else why not. With old content a failure is a line above it. */
export function Given<T>({ of, children, rows }: { of: Answer<T>; children: (data: T) => ReactNode; rows?: number }) {
  if (of.data === undefined) {
    if (of.error) return <Failure error={of.error} retry={of.reload} />;
    return <Loading {...(rows === undefined ? {} : { rows })} />;
  }
  return (
    <>
      {of.error && (
        <p className="stale" role="status">
          Not up to date: {of.error.message}
        </p>
      )}
      {children(of.data)}
    </>
  );
}
