// A table of what was asked for: a row for each; or what it means that there are none, that they are
// not yet there, or why they are not.
import type { ReactNode } from 'react';
import type { Asked } from '../api/use';
import { Given } from './Notes';

/** A column: its name, and the class of its head, if it has one. */
type Column = string | [name: string, className: string];

interface Props<T> {
  of: Asked<T[]>;
  label: string;
  head: Column[];
  /** Its last column has buttons. Default: true. */
  acts?: boolean;
  /** On a phone, each row is a card. */
  cards?: boolean;
  /** What is said where there are none. */
  none: ReactNode;
  /** A row. */
  children: (own: T, at: number, all: T[]) => ReactNode;
}

export function ListTable<T>({ of, label, head, acts = true, cards = false, none, children }: Props<T>) {
  return (
    <Given of={of} rows={3}>
      {(all) =>
        all.length === 0 ? (
          none
        ) : (
          <div className="scroll-x" tabIndex={0} role="region" aria-label={label}>
            <table className={cards ? 'cards' : undefined}>
              <thead>
                <tr>
                  {head.map((own) => (typeof own === 'string' ? <th key={own}>{own}</th> : <th key={own[0]} className={own[1]}>{own[0]}</th>))}
                  {acts && (
                    <th>
                      <span className="unseen">Actions</span>
                    </th>
                  )}
                </tr>
              </thead>
              <tbody>{all.map(children)}</tbody>
            </table>
          </div>
        )
      }
    </Given>
  );
}
