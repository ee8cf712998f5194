// What is wrong comes worst first; what is silenced or well does not come at all.
import { expect, test } from 'vitest';
import type { ServiceView } from '../api/types';
import { cpuShares, remember } from './past';
import { isAsking, serviceOf, whatIsNotKnown, whatIsWrong, type Facts } from './wrong';

function service(name: string, more: Partial<ServiceView> = {}): ServiceView {
  return {
    name, owner: null, description: null, state: 'ready', revision: 1, wanted: 2, serving: 2, deployment: null, step: null, reason: null, deployment_ms: null, instances: [],
    requests_per_second: 10, errors_per_second: 0, p99_ms: 5, requests: 0, errors: 0, routes: [], ...more,
  };
}

const calm: Facts = { services: [service('a')], alerts: [], resilience: { breakers: [], instances: [] }, readers: [], letters: [], outboxes: [], node: undefined };

test('nothing is wrong when nothing is', () => {
  expect(whatIsWrong(calm)).toEqual([]);
});

test('a service that is down comes before errors, errors before a machine’s warnings', () => {
  const wrong = whatIsWrong({
    ...calm,
    services: [service('b', { errors_per_second: 2 }), service('c', { state: 'failed', reason: 'ended with code 1' }), service('d', { errors_per_second: 0.001 })],
    node: { application: 'm', dir: '', version: '', pid: 1, started: '', edge: '', console: null, warnings: ['no cgroups'], logs_trouble: null, logs_dropped: 0 },
  });
  expect(wrong.map((own) => own.what)).toEqual(['c is down', 'b fails 20 % of requests', 'This machine']);
});

test('silenced alerts are quiet', () => {
  const alert = { id: '1', service: 'a', objective: 'availability' as const, severity: 'page' as const, state: 'firing' as const, since: '', silenced_until: null, message: '' };
  expect(whatIsWrong({ ...calm, alerts: [alert] })).toHaveLength(1);
  expect(whatIsWrong({ ...calm, alerts: [{ ...alert, silenced_until: '2030-01-01T00:00:00Z' }] })).toHaveLength(0);
});

test('a breaker that is open is red, one that the next call may close is not', () => {
  const facts = { cause: { kind: 'calls' }, trials_failed: 0 };
  const breaker = (callee: string, state: 'open' | 'half_open') => ({ caller: 'a', callee, state, why: '', facts });
  const wrong = whatIsWrong({ ...calm, resilience: { breakers: [breaker('b', 'half_open'), breaker('c', 'open')], instances: [] } });
  expect(wrong.map((own) => [own.what, own.tone])).toEqual([
    ['Breaker open: a → c', 'bad'],
    ['Breaker half open: a → b', 'warn'],
  ]);
});

test('an instance names its service', () => {
  expect(serviceOf('mail-2-r12-3')).toBe('mail-2');
});

test('processor use is the difference of two pictures', () => {
  const own = { id: 'a-r1-1', revision: 1, state: 'ready' as const, serving: true, pid: 1, address: null, restarts: 0, since: '', reason: null, last_lines: [], cpu_ns: 0, memory: 7 };
  const before = [service('a', { instances: [own] })];
  const after = [service('a', { instances: [{ ...own, cpu_ns: 5e8 }] })];
  expect(cpuShares(before, after, 1e9, {})).toEqual({ 'a-r1-1': 0.5 });
  expect(cpuShares(before, after, 1e6, { x: 1 })).toEqual({ x: 1 });
  const past = Array.from({ length: 200 }).reduce<ReturnType<typeof remember>>((old) => remember(old, after, { 'a-r1-1': 0.5 }), {});
  expect(past['a-r1-1']?.cpu).toHaveLength(120);
});

test('what was asked in vain is not known; what a node has not, or a role may not see, is no question', () => {
  const failed = (status: number, data?: unknown) => ({ data, error: { status, message: `status ${status}` } });
  const wrong = whatIsNotKnown({ breakers: failed(500, {}), letters: failed(0), outboxes: failed(404), readers: failed(403), node: { data: {}, error: undefined } });
  expect(wrong.map((own) => own.what)).toEqual(['Not known: breakers', 'Not known: letters']);
  expect(isAsking({ breakers: failed(500), node: { data: {}, error: undefined } })).toBe(false);
  expect(isAsking({ node: { data: undefined, error: undefined } })).toBe(true);
});
