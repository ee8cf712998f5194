// What is wrong now, worst first: from services, breakers, alerts, readers, dead letters and the
// node's own warnings. Each with what was seen and where to look.
import type { Alert } from '../api/types';
import type { LetterView, NodeView, OutboxView, ReaderView, ResilienceView, ServiceView } from '../api/types';
import { ago, duration, percent, plural, rate } from './format';

export interface Wrong {
  key: string;
  rank: number;
  tone: 'bad' | 'warn';
  what: string;
  detail: string;
  to: string;
  since?: string;
}

export interface Facts {
  services: ServiceView[];
  alerts: Alert[];
  resilience: ResilienceView | undefined;
  readers: ReaderView[];
  letters: LetterView[];
  outboxes: OutboxView[];
  node: NodeView | undefined;
}

/** A question to the node, as far as it has come. */
interface Asked {
  data: unknown;
  error: { status: number; message: string } | undefined;
}

/** What could not be learned: as long as it lasts, nobody can say that all is well. It comes first: it may hide the worst. */
export function whatIsNotKnown(asked: Record<string, Asked>): Wrong[] {
  const failed = Object.entries(asked).filter(([, { error }]) => error !== undefined && !hasNone(error.status));
  return failed.map(([about, { error }]) => ({
    key: `unknown-${about}`,
    rank: 0,
    tone: 'warn',
    what: `Not known: ${about}`,
    detail: `${error?.message ?? ''}; what is shown of it may be old`,
    to: '/',
  }));
}

/** Whether some questions have no answer yet, good or bad. */
export function isAsking(asked: Record<string, Asked>): boolean {
  return Object.values(asked).some((own) => own.data === undefined && own.error === undefined);
}

/** A node without this part, or a role that may not see it: there is nothing to know. */
function hasNone(status: number): boolean {
  return status === 404 || status === 403;
}

const ERROR_SHARE = 0.01;

export function whatIsWrong(facts: Facts): Wrong[] {
  const found = [
    ...facts.services.flatMap(ofService),
    ...facts.alerts.filter((alert) => alert.state === 'firing' && alert.silenced_until === null).map(ofAlert),
    ...(facts.resilience?.breakers ?? []).map((own): Wrong => ({
      key: `breaker-${own.caller ?? 'edge'}-${own.callee}`,
      // Half open, it waits for a call to show whether all is well again.
      ...(own.state === 'open' ? { rank: 2, tone: 'bad' } : { rank: 5, tone: 'warn' }),
      what: `Breaker ${own.state === 'open' ? 'open' : 'half open'}: ${own.caller ?? 'the edge'} → ${own.callee}`,
      detail: own.why,
      to: `/services/${own.callee}`,
    })),
    ...(facts.resilience?.instances ?? []).filter((own) => own.state !== 'kept').map((own): Wrong => ({
      key: `out-${own.instance}`,
      rank: 4,
      tone: 'warn',
      what: `${own.instance} gets ${own.state === 'out' ? 'no' : 'few'} requests`,
      detail: own.why ?? '',
      to: `/services/${serviceOf(own.instance)}`,
    })),
    ...facts.readers.filter((own) => own.trouble !== null && (own.failing > 0 || own.paused_until !== null)).map(ofReader),
    ...ofLetters(facts.letters),
    ...facts.outboxes.filter((own) => own.trouble !== null).map((own): Wrong => ({
      key: `outbox-${own.service}`,
      rank: 5,
      tone: 'warn',
      what: `The outbox of ${own.service} is stuck`,
      detail: `${own.trouble ?? ''}; ${plural(own.waiting, 'row')} wait`,
      to: '/events/outboxes',
      ...(own.trouble_since === null ? {} : { since: own.trouble_since }),
    })),
    ...ofNode(facts.node),
  ];
  return found.sort((a, b) => a.rank - b.rank);
}

function ofService(own: ServiceView): Wrong[] {
  const to = `/services/${own.name}`;
  const since = own.instances.map((instance) => instance.since).sort().at(-1);
  const when = since === undefined ? {} : { since };
  if (own.state === 'failed') {
    return [{ key: `service-${own.name}`, rank: 0, tone: 'bad', what: `${own.name} is down`, detail: own.reason ?? 'No instance is ready.', to, ...when }];
  }
  const found: Wrong[] = [];
  if (own.state === 'degraded') {
    const what = `${own.name}: ${own.serving} of ${plural(own.wanted, 'instance')} ready`;
    found.push({ key: `service-${own.name}`, rank: 1, tone: 'bad', what, detail: own.reason ?? '', to, ...when });
  }
  const share = own.requests_per_second > 0 ? own.errors_per_second / own.requests_per_second : 0;
  if (share >= ERROR_SHARE) {
    const what = `${own.name} fails ${percent(share)} of requests`;
    found.push({ key: `errors-${own.name}`, rank: 1, tone: 'bad', what, detail: `${rate(own.errors_per_second)} of ${rate(own.requests_per_second)}, p99 ${duration(own.p99_ms * 1000)}`, to });
  }
  return found;
}

function ofAlert(alert: Alert): Wrong {
  const isPage = alert.severity === 'page';
  return { key: `alert-${alert.id}`, rank: isPage ? 1 : 4, tone: isPage ? 'bad' : 'warn', what: `${alert.service}: ${alert.objective}`, detail: alert.message, to: '/alerts', since: alert.since };
}

function ofReader(own: ReaderView): Wrong {
  return {
    key: `reader-${own.name}-${own.topic}`,
    rank: 3,
    tone: 'warn',
    what: `${own.name} does not take ${own.topic}`,
    detail: `${own.trouble ?? ''}; ${plural(own.lag, 'record')} wait`,
    to: '/events/readers',
    ...(own.trouble_at === null ? {} : { since: own.trouble_at }),
  };
}

function ofLetters(letters: LetterView[]): Wrong[] {
  const newest = letters.map((own) => own.died).sort().at(-1);
  if (newest === undefined) return [];
  const services = [...new Set(letters.map((own) => own.service))].join(', ');
  return [{ key: 'letters', rank: 6, tone: 'warn', what: plural(letters.length, 'dead letter'), detail: `of ${services}; the newest ${ago(newest)} old`, to: '/events/dead', since: newest }];
}

function ofNode(node: NodeView | undefined): Wrong[] {
  if (!node) return [];
  const warnings = node.warnings.map((text): Wrong => ({ key: text, rank: 8, tone: 'warn', what: 'This machine', detail: text, to: '/timeline' }));
  if (node.logs_trouble === null) return warnings;
  return [{ key: 'logs', rank: 2, tone: 'bad', what: 'Log lines are being lost', detail: node.logs_trouble, to: '/timeline' }, ...warnings];
}

/** `orders-r3-1` is an instance of `orders`. */
export function serviceOf(instance: string): string {
  return instance.replace(/-r\d+-\d+$/, '');
}
