// Tokens of people and programs: made, listed, revoked.
import { useState } from 'react';
import { send } from '../../api/client';
import { at } from '../../api/paths';
import type { Role } from '../../api/types';
import { useApi } from '../../api/use';
import { inert } from '../../lib/text';
import { Ask } from '../../ui/Ask';
import { Field } from '../../ui/Field';
import { ListTable } from '../../ui/ListTable';
import { Empty } from '../../ui/Notes';
import { Revoke } from '../../ui/Revoke';
import { Secret } from '../../ui/Secret';
import { Ago, Moment } from '../../ui/Time';
import { toast } from '../../ui/Toast';

const ROLES: Record<Role, string> = { viewer: 'Sees everything, changes nothing', operator: 'Deploys, scales, redrives, purges', admin: 'Also gives and takes tokens, and reads the audit' };

export function Tokens() {
  const found = useApi(at('/v1/tokens'));
  const [name, setName] = useState('');
  const [role, setRole] = useState<Role>('viewer');
  const [made, setMade] = useState<{ name: string; token: string } | null>(null);
  const create = async () => {
    const { token } = await send('POST', '/v1/tokens', {}, { name, role });
    setMade({ name, token });
    found.reload();
  };
  return (
    <section className="panel" aria-labelledby="tokens">
      <header>
        <h2 id="tokens">Tokens</h2>
        <Ask label="New token" title="A new token" confirm="Make it" onOpen={() => setName('')} run={create}>
          <Field label="Name" hint="Who will have it. The audit log shows it.">
            {(id) => <input id={id} required maxLength={100} value={name} onChange={(event) => setName(event.target.value)} />}
          </Field>
          <Field label="Role" hint={ROLES[role]}>
            {(id) => (
              <select id={id} value={role} onChange={(event) => setRole(event.target.value as Role)}>
                {Object.keys(ROLES).map((own) => (
                  <option key={own}>{own}</option>
                ))}
              </select>
            )}
          </Field>
        </Ask>
      </header>
      {made && <Secret name={`The token of ${made.name}`} secret={made.token} onDone={() => setMade(null)} />}
      <ListTable of={found} label="Tokens, table" head={['Name', 'Role', 'Made', 'Last used']} none={<Empty title="No tokens" />}>
        {(own) => (
          <tr key={own.id}>
            <td>{inert(own.name)}</td>
            <td>{own.role}</td>
            <td>
              <Moment time={own.created} exact={false} />
            </td>
            <td>{own.last_used === null ? <span title="Not since the node was started">–</span> : <Ago time={own.last_used} suffix />}</td>
            <td className="right">
              <Revoke
                revoked={own.revoked}
                title={`Revoke the token of ${own.name}?`}
                run={async () => {
                  await send('POST', '/v1/tokens/{id}/revoke', { id: own.id });
                  toast(`The token of ${own.name} is refused from now on`);
                  found.reload();
                }}
              >
                <p>Whoever uses it is logged out at once. This cannot be undone.</p>
              </Revoke>
            </td>
          </tr>
        )}
      </ListTable>
    </section>
  );
}
