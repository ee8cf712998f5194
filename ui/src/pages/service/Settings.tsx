// What the revision that serves was told by its service.toml, and what it goes by otherwise.
import { at } from '../../api/paths';
import type { SettingView } from '../../api/types';
import { useApi } from '../../api/use';
import { oneLine } from '../../lib/text';
import { Given } from '../../ui/Notes';

export function Settings({ service, revision }: { service: string; revision: number }) {
  const found = useApi(at('/v1/services/{service}/settings', { service }), 60_000);
  return (
    <section className="panel" aria-labelledby="in-force">
      <header>
        <h2 id="in-force">Settings of r{found.data?.revision ?? revision}</h2>
      </header>
      <Given of={found} rows={6}>
        {(view) => (
          <div className="scroll-x" tabIndex={0} role="region" aria-label="Settings">
            <table>
              <thead>
                <tr>
                  <th>Setting</th>
                  <th>Value</th>
                  <th>From</th>
                </tr>
              </thead>
              <tbody>
                {view.settings.map((own) => (
                  <Row key={own.key} of={own} />
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Given>
    </section>
  );
}

function Row({ of: { key, value, given } }: { of: SettingView }) {
  return (
    <tr>
      <td>
        <code>{oneLine(key, 100)}</code>
      </td>
      <td>{value === null ? <span className="dim">not shown: it may be a secret</span> : <code>{oneLine(value, 300)}</code>}</td>
      <td className={given ? '' : 'dim'}>{given ? 'service.toml' : 'default'}</td>
    </tr>
  );
}
