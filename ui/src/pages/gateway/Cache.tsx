// The gateway's cache: how it does, and forgetting what is in it, by tag, by path, or all of it.
import { useState } from 'react';
import { send } from '../../api/client';
import { at } from '../../api/paths';
import type { PurgeOrder } from '../../api/types';
import { useApi } from '../../api/use';
import { useMay } from '../../app/session';
import { bytes, count, percent, plural } from '../../lib/format';
import { Ask } from '../../ui/Ask';
import { Field } from '../../ui/Field';
import { Given } from '../../ui/Notes';
import { toast } from '../../ui/Toast';

type What = 'path' | 'tag' | 'all';

export function Cache() {
  const found = useApi(at('/v1/cache'), 5000);
  const mayAct = useMay('operator');
  const [what, setWhat] = useState<What>('path');
  const [value, setValue] = useState('');
  const purge = async () => {
    const order: PurgeOrder = what === 'all' ? { all: true } : what === 'tag' ? { tag: value } : { path: value };
    const done = await send('POST', '/v1/cache/purge', {}, order);
    toast(`${plural(done.pages, 'page')} forgotten`);
    found.reload();
  };
  return (
    <section className="panel" aria-labelledby="cache">
      <header>
        <h2 id="cache">Cache</h2>
        {mayAct && (
          <Ask label="Purge" danger title="Purge the cache?" onOpen={() => setValue('')} run={purge}>
            <p>What is forgotten is asked of the services again, by the next request for it.</p>
            <Field label="What">
              {(id) => (
                <select id={id} value={what} onChange={(event) => setWhat(event.target.value as What)}>
                  <option value="path">A path</option>
                  <option value="tag">A tag</option>
                  <option value="all">Everything</option>
                </select>
              )}
            </Field>
            {what !== 'all' && (
              <Field label={what === 'path' ? 'Path' : 'Tag'} hint={what === 'path' ? 'With any query. /** at its end stands for all below.' : 'As the service has marked it: Cache-Tag.'}>
                {(id) => <input id={id} required value={value} placeholder={what === 'path' ? '/weather' : 'weather'} onChange={(event) => setValue(event.target.value)} />}
              </Field>
            )}
          </Ask>
        )}
      </header>
      <Given of={found} rows={1}>
        {(cache) => {
          const asked = cache.hits + cache.misses;
          return (
            <dl className="facts pad">
              <Fact name="Answered from it">{asked === 0 ? '–' : percent(cache.hits / asked)}</Fact>
              <Fact name="Hits">{count(cache.hits)}</Fact>
              <Fact name="Misses">{count(cache.misses)}</Fact>
              <Fact name="Pages">{count(cache.entries)}</Fact>
              <Fact name="Memory">{bytes(cache.bytes)}</Fact>
            </dl>
          );
        }}
      </Given>
    </section>
  );
}

function Fact({ name, children }: { name: string; children: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className="num">{children}</dd>
    </div>
  );
}
