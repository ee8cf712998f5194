// The SDK of OpenTelemetry for Node, over gRPC, JSON and protobuf, plain and compressed, and with nothing but the
// environment that a service has: what it sends is found by the API, all of it.
import assert from 'node:assert/strict';
import http from 'node:http';
import { CompressionAlgorithm } from '@opentelemetry/otlp-exporter-base';
import { SpanKind, SpanStatusCode, context, metrics as metersApi, propagation, trace } from '@opentelemetry/api';
import { SeverityNumber, logs as logsApi } from '@opentelemetry/api-logs';
import { OTLPLogExporter as GrpcLogs } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPLogExporter as HttpLogs } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtoLogs } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPMetricExporter as GrpcMetrics } from '@opentelemetry/exporter-metrics-otlp-grpc';
import { OTLPMetricExporter as HttpMetrics } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtoMetrics } from '@opentelemetry/exporter-metrics-otlp-proto';
import { OTLPTraceExporter as GrpcTraces } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as HttpTraces } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoTraces } from '@opentelemetry/exporter-trace-otlp-proto';
import { NodeSDK, logs, metrics, resources } from '@opentelemetry/sdk-node';

const SPANS = 100;
const PATIENCE_MS = 60_000;
const WAYS = ['grpc', 'http', 'proto'].flatMap((transport) => ['none', 'gzip'].map((compression) => `node-${transport}-${compression}`));
const KINDS = {
  grpc: [GrpcTraces, GrpcMetrics, GrpcLogs],
  http: [HttpTraces, HttpMetrics, HttpLogs],
  proto: [ProtoTraces, ProtoMetrics, ProtoLogs],
};

/** What the admin API says, on its Unix socket. */
function admin(path, query = {}) {
  const options = { socketPath: process.env.ADMIN, path: `${path}?${new URLSearchParams(query)}` };
  return new Promise((resolve, reject) => {
    const ask = http.get(options, async (answer) => {
      const text = (await answer.toArray()).join('');
      if (answer.statusCode === 200) resolve(text);
      else reject(new Error(`${answer.statusCode}: ${text}`));
    });
    ask.on('error', reject);
  });
}

async function until(what, look) {
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    assert.ok(performance.now() < end, `in vain waited for ${what}`);
  }
}

function exporters(way) {
  const [, transport, kind] = way.split('-');
  const compression = kind === 'gzip' ? CompressionAlgorithm.GZIP : CompressionAlgorithm.NONE;
  const url = (signal) => (transport === 'grpc' ? `http://${process.env.OTLP_GRPC}` : `http://${process.env.OTLP_HTTP}/v1/${signal}`);
  return ['traces', 'metrics', 'logs'].map((signal, at) => new KINDS[transport][at]({ url: url(signal), compression }));
}

/** An SDK for this way, with its own exporters. */
function configured(way) {
  const [traces, points, records] = exporters(way);
  return new NodeSDK({
    resource: resources.resourceFromAttributes({ 'service.name': way, 'service.version': 'r9', 'service.instance.id': 'one' }),
    autoDetectResources: false,
    traceExporter: traces,
    logRecordProcessors: [new logs.BatchLogRecordProcessor({ exporter: records })],
    metricReaders: [new metrics.PeriodicExportingMetricReader({ exporter: points, exportIntervalMillis: 3_600_000 })],
    views: [{ instrumentName: 'exponential', aggregation: { type: metrics.AggregationType.EXPONENTIAL_HISTOGRAM } }],
  });
}

/** An SDK that is told nothing, as in a service: the environment says it all. */
function untold(name) {
  const theirs = { OTEL_EXPORTER_OTLP_ENDPOINT: `http://${process.env.OTLP_HTTP}`, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf', OTEL_SERVICE_NAME: name, OTEL_RESOURCE_ATTRIBUTES: 'service.instance.id=one' };
  const kinds = { OTEL_LOGS_EXPORTER: 'otlp', OTEL_METRICS_EXPORTER: 'otlp', OTEL_METRIC_EXPORT_INTERVAL: '3600000' };
  Object.assign(process.env, theirs, kinds);
  const sdk = new NodeSDK({ views: [{ instrumentName: 'exponential', aggregation: { type: metrics.AggregationType.EXPONENTIAL_HISTOGRAM } }] });
  sdk.start();
  for (const key of Object.keys({ ...theirs, ...kinds })) delete process.env[key];
  return sdk;
}

/** Spans with an event, a link and a log record in each, a counter, histograms; gives the last span's context. */
async function send(way, sdk) {
  const tracer = trace.getTracer('compat', '1.0');
  const logger = logsApi.getLogger('compat');
  const meter = metersApi.getMeter('compat');
  const counter = meter.createCounter('compat.node', { unit: '{thing}', description: 'Things.' });
  const histograms = ['explicit', 'exponential'].map((name) => meter.createHistogram(name, { unit: 's', advice: { explicitBucketBoundaries: [0.1, 0.5, 0.9, 0.95, 1] } }));
  let last;
  for (let number = 0; number < SPANS; number += 1) {
    const links = last ? [{ context: last, attributes: { why: 'before' } }] : [];
    tracer.startActiveSpan('work', { kind: SpanKind.CONSUMER, attributes: { n: number, list: [1, 2], deep: true, text: '☂ "q"' }, links }, (span) => {
      span.addEvent('done', { step: number });
      if (number === SPANS - 1) span.recordException(new TypeError('on purpose'));
      if (number === SPANS - 1) span.setStatus({ code: SpanStatusCode.ERROR, message: 'it failed' });
      logger.emit({ severityNumber: SeverityNumber.WARN, body: `step ${number} of ${way}`, attributes: { n: number }, context: context.active() });
      counter.add(2, { kind: 'thing' });
      for (const histogram of histograms) histogram.record(number / SPANS);
      tracer.startSpan('inner').end();
      if (number < SPANS - 1) last = span.spanContext();
      else SENT.set(way, { before: last, own: span.spanContext() });
      span.end();
    });
  }
  // Shutting down sends what there is; nothing may go wrong in it.
  await sdk.shutdown();
  for (const api of [trace, context, propagation, metersApi, logsApi]) api.disable();
}

const SENT = new Map();

async function found(way) {
  const { own } = SENT.get(way);
  const told = await until(`the trace of ${way}`, async () => {
    const view = JSON.parse(await admin(`/v1/traces/${own.traceId}`));
    return view.spans.length === 2 && view.logs.length === 1 && view;
  });
  return { ...told, span: told.spans.find((span) => span.span === own.spanId) };
}

const CHECKS = {
  async everything_is_taken() {
    for (const way of WAYS) {
      const sdk = configured(way);
      sdk.start();
      await send(way, sdk);
    }
    await send('node-untold', untold('node-untold'));
  },
  async spans_are_as_they_were_sent() {
    for (const way of SENT.keys()) {
      const { span, spans } = await found(way);
      const { service, instance, name, kind, status, status_message } = span;
      assert.deepEqual({ service, instance, name, kind, status, status_message }, { service: way, instance: 'one', name: 'work', kind: 'consumer', status: 'error', status_message: 'it failed' });
      for (const [key, value] of Object.entries({ n: SPANS - 1, list: [1, 2], deep: true, text: '☂ "q"' })) assert.deepEqual(span.attributes[key], value, key);
      assert.equal(spans.find((own) => own.name === 'inner').parent, span.span);
      const [done, exception] = span.events;
      assert.deepEqual([done.name, done.attributes.step, exception.name], ['done', SPANS - 1, 'exception']);
      assert.equal(exception.attributes['exception.message'], 'on purpose');
    }
  },
  async records_stand_in_their_trace() {
    for (const way of SENT.keys()) {
      const { span, logs: [record] } = await found(way);
      assert.deepEqual([record.service, record.instance, record.level, record.stream, record.span], [way, 'one', 'warn', 'otlp', span.span]);
      assert.equal(record.message, `step ${SPANS - 1} of ${way}`);
      assert.equal(record.attributes.n, SPANS - 1);
      await until(`the records of ${way}`, async () => (await admin('/v1/logs', { services: way })).trim().split('\n').length === SPANS);
    }
  },
  async metrics_add_up() {
    const summed = async (name, way, stat) => {
      const { series } = JSON.parse(await admin('/v1/metrics/series', { name, match: `service:${way}`, stat }));
      return series.flatMap((own) => own.points.map(([, value]) => value).filter((value) => value !== null));
    };
    for (const way of SENT.keys()) {
      assert.equal((await summed('compat.node', way, 'value')).reduce((sum, value) => sum + value, 0), 2 * SPANS);
      for (const name of ['explicit', 'exponential']) {
        const values = await summed(name, way, 'p95');
        assert.ok(values.length > 0 && values.every((value) => Math.abs(value - 0.95) < 0.06), `${name} of ${way}: ${values}`);
      }
    }
    const own = JSON.parse(await admin('/v1/metrics/names')).find(({ name }) => name === 'compat.node');
    assert.deepEqual([own.kind, own.unit, own.help], ['counter', '{thing}', 'Things.']);
    assert.ok(own.labels.includes('kind'));
  },
  async links_lead_to_other_traces() {
    for (const [way, { before }] of SENT) {
      const { span } = await found(way);
      assert.deepEqual(span.links, [{ trace: before.traceId, span: before.spanId, attributes: { why: 'before' } }]);
    }
  },
};

for (const [name, run] of Object.entries(CHECKS)) {
  const begun = performance.now();
  let verdict = 'ok';
  try {
    await run();
  } catch (error) {
    console.log(error);
    verdict = 'FAILED';
    process.exitCode = 1;
  }
  console.log(`${verdict.padEnd(6)} ${name} ${((performance.now() - begun) / 1000).toFixed(1)}s`);
}
