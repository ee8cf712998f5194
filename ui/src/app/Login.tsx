// The door: a token, given once, becomes a cookie that no script can read.
// `atoll console` prints a link that carries a code in its fragment, which browsers send to nobody.
import { useEffect, useRef, useState, type SubmitEvent } from 'react';
import { send, told } from '../api/client';
import { Field } from '../ui/Field';

export function Login({ onDone }: { onDone: () => void }) {
  const [token, setToken] = useState('');
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState('');

  const submit = async (text: string) => {
    setBusy(true);
    setTrouble('');
    try {
      await send('POST', '/session', {}, { token: text.trim() });
      onDone();
    } catch (error) {
      setTrouble(told(error));
    } finally {
      setBusy(false);
    }
  };
  const used = useRef(false);
  useEffect(() => {
    const code = new URLSearchParams(location.hash.slice(1)).get('token');
    if (code === null || used.current) return;
    used.current = true;
    // It is good once: it must not stay in the history.
    history.replaceState(null, '', '/');
    void submit(code);
  });
  return (
    <main className="login">
      <form
        onSubmit={(event: SubmitEvent) => {
          event.preventDefault();
          void submit(token);
        }}
      >
        <h1 className="brand">
          <img src="/icon.svg" alt="" /> Atoll
        </h1>
        <Field label="Token" hint="`atoll console` prints a link that logs you in; `atoll token create` makes a token.">
          {(id) => (
            <input id={id} type="password" autoComplete="current-password" autoFocus required value={token} onChange={(event) => setToken(event.target.value)} />
          )}
        </Field>
        {trouble !== '' && (
          <p className="trouble" role="alert">
            {trouble}
          </p>
        )}
        <button type="submit" className="btn btn-main" disabled={busy || token.trim() === ''}>
          {busy ? 'Logging in…' : 'Log in'}
        </button>
      </form>
    </main>
  );
}
