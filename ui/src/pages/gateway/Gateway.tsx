// The edge: its cache and how to empty it, what breakers hold back, and API keys of clients.
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { Held } from '../../ui/Held';
import { Given } from '../../ui/Notes';
import { Cache } from './Cache';
import { Keys } from './Keys';

export default function Gateway() {
  const node = useApi(at('/v1/node')).data;
  const resilience = useApi(at('/v1/resilience'), 5000);
  return (
    <>
      <h1>
        Gateway <span className="sub">{node?.edge ?? ''}</span>
      </h1>
      <Cache />
      <section className="panel" aria-labelledby="held">
        <header>
          <h2 id="held">What holds requests back</h2>
        </header>
        <Given of={resilience} rows={2}>
          {(view) => <Held {...view} />}
        </Given>
      </section>
      <Keys />
    </>
  );
}
