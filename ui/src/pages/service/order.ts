// Asking for a deployment, and telling how it ended.
import { get, send } from '../../api/client';
import { at } from '../../api/paths';
import { forget } from '../../api/use';
import type { NewDeployment } from '../../api/types';
import { toast } from '../../ui/Toast';

const WAIT_SECONDS = 60;
const PAUSE_MS = 1000;
/** A build may take long; after an hour nobody waits for a toast. */
const ASKED_MAX = 60;

/** Resolves when the node has accepted the order; its end is told later, in a toast. */
export async function order(service: string, wanted: NewDeployment, onEnd?: () => void): Promise<void> {
  const { deployment } = await send('POST', '/v1/services/{service}/deployments', { service }, wanted);
  forget();
  toast(`${service}: ${wanted.kind} has begun (${deployment})`);
  onEnd?.();
  void watch(service, deployment, onEnd);
}

async function watch(service: string, id: number, onEnd?: () => void): Promise<void> {
  try {
    let end = await get(at('/v1/deployments/{id}', { id, wait: WAIT_SECONDS }));
    for (let asked = 1; end.outcome === null && asked < ASKED_MAX; asked += 1) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      end = await get(at('/v1/deployments/{id}', { id, wait: WAIT_SECONDS }));
    }
    if (end.outcome === 'succeeded') toast(`${service}: ${end.kind} succeeded`);
    else if (end.outcome !== null) toast(`${service}: ${end.kind} ${end.outcome}. ${end.detail}`, true);
    onEnd?.();
  } catch {
    // The order was accepted; its history tells how it ended.
  }
}
