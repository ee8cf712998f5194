// Who is logged in. Pages ask `useMe()`; what a role may not do is not offered, and the node checks
// it all again.
import { createContext, useContext } from 'react';
import type { Me, Role } from '../api/types';

const Session = createContext<Me | null>(null);
export const SessionProvider = Session.Provider;

export function useMe(): Me {
  const me = useContext(Session);
  if (me === null) throw new Error('a page was shown without a session');
  return me;
}

const RANK: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 };

/** Whether the reader has this role or more. */
export function useMay(role: Role): boolean {
  return RANK[useMe().role] >= RANK[role];
}
