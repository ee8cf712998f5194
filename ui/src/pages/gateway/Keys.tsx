// API keys of the gateway's clients: made, listed, taken back. They are an admin's; nobody else is shown any.
import { useState } from 'react';
import { send } from '../../api/client';
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { useMay } from '../../app/session';
import { inert } from '../../lib/text';
import { Ask } from '../../ui/Ask';
import { Field } from '../../ui/Field';
import { ListTable } from '../../ui/ListTable';
import { Empty } from '../../ui/Notes';
import { Revoke } from '../../ui/Revoke';
import { Secret } from '../../ui/Secret';
import { Moment } from '../../ui/Time';
import { toast } from '../../ui/Toast';

export function Keys() {
  const isAdmin = useMay('admin');
  const found = useApi(isAdmin ? at('/v1/keys') : null);
  const [name, setName] = useState('');
  const [scopes, setScopes] = useState('');
  const [made, setMade] = useState<{ key: string; name: string } | null>(null);
  const create = async () => {
    const key = await send('POST', '/v1/keys', {}, { name, scopes: scopes.split(/[\s,]+/).filter(Boolean) });
    setMade(key);
    found.reload();
  };
  if (!isAdmin) return null;
  return (
    <section className="panel" aria-labelledby="keys">
      <header>
        <h2 id="keys">API keys</h2>
        <Ask label="New key" title="A new API key" confirm="Make it" onOpen={() => setName('')} run={create}>
          <Field label="Name" hint="Who will have it. Services see it as the subject.">
            {(id) => <input id={id} required value={name} onChange={(event) => setName(event.target.value)} />}
          </Field>
          <Field label="Scopes" hint="What it allows, with spaces between. May be empty.">
            {(id) => <input id={id} value={scopes} onChange={(event) => setScopes(event.target.value)} />}
          </Field>
        </Ask>
      </header>
      {made && <Secret name={`The key of ${made.name}`} secret={made.key} onDone={() => setMade(null)} />}
      <ListTable
        of={found}
        label="API keys, table"
        head={['Name', 'Key', 'Scopes', ['Made', 'wide'], ['Expires', 'wide']]}
        none={<Empty title="No keys">A route with auth by key asks its clients for one.</Empty>}
      >
        {(own) => (
          <tr key={own.id}>
            <td>{inert(own.name)}</td>
            <td className="mono">{own.id}</td>
            <td>{own.scopes.join(' ')}</td>
            <td className="wide">
              <Moment time={own.created} exact={false} />
            </td>
            <td className="wide">{own.expires === null ? <span className="dim">never</span> : <Moment time={own.expires} exact={false} />}</td>
            <td className="right">
              <Revoke
                revoked={own.revoked}
                title={`Revoke the key of ${own.name}?`}
                run={async () => {
                  await send('POST', '/v1/keys/{id}/revoke', { id: own.id });
                  toast(`The key of ${own.name} is refused from now on`);
                  found.reload();
                }}
              >
                <p>Whoever has it is refused at once. This cannot be undone.</p>
              </Revoke>
            </td>
          </tr>
        )}
      </ListTable>
    </section>
  );
}
