// The end of a row of what can be revoked: a button that asks first, or that it is over.
import type { ReactNode } from 'react';
import { Ask } from './Ask';
import { Tag } from './Badges';

interface Props {
  revoked: string | null;
  title: string;
  run: () => Promise<void>;
  children: ReactNode;
}

export function Revoke({ revoked, title, run, children }: Props) {
  if (revoked !== null) return <Tag>revoked</Tag>;
  return (
    <Ask label="Revoke" className="btn btn-small" danger title={title} run={run}>
      {children}
    </Ask>
  );
}
