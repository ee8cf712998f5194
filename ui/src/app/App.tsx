// From nothing to a page: who is it, which parts does this node have, where are we.
import { useCallback, useEffect, useState } from 'react';
import { ApiError, me, send, whenLoggedOut } from '../api/client';
import { forget } from '../api/use';
import type { Me } from '../api/types';
import { Failure } from '../ui/Notes';
import { Login } from './Login';
import { SessionProvider } from './session';
import { Shell } from './Shell';

type Who = { is: 'asking' } | { is: 'out' } | { is: 'in'; me: Me } | { is: 'lost'; error: ApiError };

export function App() {
  const [who, setWho] = useState<Who>({ is: 'asking' });

  const look = useCallback(() => {
    me().then(
      (found) => setWho(found === null ? { is: 'out' } : { is: 'in', me: found }),
      (error: unknown) => {
        if (!(error instanceof ApiError)) return;
        setWho(error.status === 401 ? { is: 'out' } : { is: 'lost', error });
      },
    );
  }, []);
  useEffect(() => {
    whenLoggedOut(() => {
      forget();
      setWho({ is: 'out' });
    });
    look();
  }, [look]);

  const logOut = useCallback(() => {
    forget();
    const out = () => setWho({ is: 'out' });
    send('DELETE', '/session', {}).then(out, out);
  }, []);

  if (who.is === 'asking') return null;
  if (who.is === 'out') return <Login onDone={look} />;
  if (who.is === 'lost') return <Failure error={who.error} retry={look} />;
  return (
    <SessionProvider value={who.me}>
      <Shell onLogOut={logOut} />
    </SessionProvider>
  );
}
