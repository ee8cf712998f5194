// What can be done with a service. Each says what will happen, and asks for a reason, because the
// history will be read by somebody who was asleep.
import { useState } from 'react';
import type { Order, ServiceView } from '../../api/types';
import { plural } from '../../lib/format';
import { Ask } from '../../ui/Ask';
import { Field } from '../../ui/Field';
import { order } from './order';

export function Actions({ service }: { service: ServiceView }) {
  const [why, setWhy] = useState('');
  const [count, setCount] = useState(service.wanted);
  const [dir, setDir] = useState('');
  const isBusy = service.deployment !== null;
  const run = (wanted: Order) => () => order(service.name, { ...wanted, why });
  const reset = () => {
    setWhy('');
    setDir('');
    setCount(service.wanted);
  };
  const reason = (
    <Field label="Why" hint="For the history. May be empty.">
      {(id) => <input id={id} value={why} maxLength={500} onChange={(event) => setWhy(event.target.value)} />}
    </Field>
  );
  return (
    <>
      <Ask label="Restart" title={`Restart ${service.name}?`} disabled={isBusy} onOpen={reset} run={run({ kind: 'restart' })}>
        <p>New instances of revision {service.revision ?? '–'} take over one after the other. No request is lost; what instances hold in memory is.</p>
        {reason}
      </Ask>
      <Ask label="Scale" title={`Scale ${service.name}`} disabled={isBusy} onOpen={reset} run={run({ kind: 'scale', instances: count })}>
        <Field label="Instances" hint={`Now ${plural(service.wanted, 'instance')}. The manifest says how many there may be.`}>
          {(id) => <input id={id} type="number" min={0} max={1000} value={count} onChange={(event) => setCount(Number(event.target.value))} />}
        </Field>
        {reason}
      </Ask>
      <Ask label="Deploy" title={`Deploy ${service.name}?`} disabled={isBusy} onOpen={reset} run={run(dir === '' ? { kind: 'deploy' } : { kind: 'deploy', dir })}>
        <p>Its folder is built, and the new revision takes over when it is ready. If it does not get ready, the present one serves on.</p>
        <Field label="Folder" hint="On the node's machine. The service's own, if empty.">
          {(id) => <input id={id} value={dir} onChange={(event) => setDir(event.target.value)} />}
        </Field>
        {reason}
      </Ask>
      <Ask label="Roll back" danger title={`Roll ${service.name} back?`} disabled={isBusy} onOpen={reset} run={run({ kind: 'rollback' })}>
        <p>The newest revision before {service.revision ?? '–'} that has served takes over. To choose another one, see its deployments.</p>
        {reason}
      </Ask>
    </>
  );
}
