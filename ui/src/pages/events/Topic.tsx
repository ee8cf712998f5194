// One topic: its numbers, its readers, and its records as they come.
import { useState } from 'react';
import { send } from '../../api/client';
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { Link, useQuery } from '../../app/router';
import { useMay } from '../../app/session';
import { pretty, shownText } from '../../lib/bytes';
import { bytes, count } from '../../lib/format';
import { oneLine } from '../../lib/text';
import { Ask } from '../../ui/Ask';
import { Attributes, Long } from '../../ui/Attributes';
import { Copy } from '../../ui/Copy';
import { Field } from '../../ui/Field';
import { Icon } from '../../ui/Icon';
import { Empty, Failure, Loading } from '../../ui/Notes';
import { Rows } from '../../ui/Rows';
import { Moment } from '../../ui/Time';
import { toast } from '../../ui/Toast';
import { Partitions } from './Partitions';
import { Readers } from './Readers';
import { useRecords } from './useRecords';

const TAIL = 50;

export function Topic({ name }: { name: string }) {
  const [query, set] = useQuery();
  const isLive = query.get('live') === '1';
  const open = query.get('record');
  const topics = useApi(at('/v1/topics'), 10_000);
  const { records, error, loading } = useRecords(name, TAIL, isLive);
  const mayAct = useMay('operator');
  const topic = topics.data?.find((own) => own.name === name);
  if (topics.data && !topic) {
    return (
      <Empty title={`There is no topic '${name}'`}>
        <Link className="btn" to="/events">
          All topics
        </Link>
      </Empty>
    );
  }
  return (
    <>
      <div className="page-head">
        <h2 className="big">{name}</h2>
        <div className="bar">
          <button type="button" className="btn" aria-pressed={isLive} onClick={() => set({ live: isLive ? null : '1' })}>
            <Icon name={isLive ? 'pause' : 'play'} /> Live
          </button>
          {mayAct && <Publish topic={name} />}
        </div>
      </div>
      {topic && (
        <p className="dim">
          {count(topic.records)} records, {bytes(topic.bytes)}, {topic.partitions} partitions · published by {topic.publishers.join(', ') || 'nobody'}
        </p>
      )}
      <Readers topic={name} />
      <Partitions topic={name} />
      {error ? (
        <Failure error={error} />
      ) : loading && records.length === 0 ? (
        <Loading />
      ) : records.length === 0 ? (
        <Empty title="It has no records">They appear here when one is published.</Empty>
      ) : (
        <Rows label="Records, newest first" className="tall" items={records} keyOf={(own) => `${own.partition}-${own.offset}`} estimate={30}>
          {(own) => {
            const id = `${own.partition}-${own.offset}`;
            const isOpen = open === id;
            return (
              <>
                <button type="button" className="log record" aria-expanded={isOpen} onClick={() => set({ record: isOpen ? null : id }, true)}>
                  <span className="log-time">{own.time === null ? '–' : <Moment time={own.time} />}</span>
                  <span className="dim">
                    {own.partition}:{own.offset}
                  </span>
                  <span className="log-service clip">{oneLine(shownText(own.key), 60)}</span>
                  <span className="log-message clip">{oneLine(shownText(own.value), 300)}</span>
                </button>
                {isOpen && (
                  <div className="detail">
                    <div className="detail-message">
                      <Long text={pretty(shownText(own.value))} />
                    </div>
                    <Attributes of={Object.fromEntries(own.headers.map(([header, value], at) => [own.headers.findIndex(([first]) => first === header) === at ? header : `${header} (${at})`, shownText(value)]))} />
                    <div className="bar">
                      <Copy text={shownText(own.value)} label="Copy the value" />
                    </div>
                  </div>
                )}
              </>
            );
          }}
        </Rows>
      )}
    </>
  );
}

function Publish({ topic }: { topic: string }) {
  const [key, setKey] = useState('');
  const [value, setValue] = useState('');
  const run = async () => {
    const place = await send('POST', '/v1/topics/{topic}/records', { topic }, { key: key === '' ? null : key, value });
    toast(`Published: partition ${place.partition}, offset ${place.offset}`);
  };
  return (
    <Ask label="Publish" title={`Publish a record to ${topic}`} onOpen={() => setValue('')} run={run}>
      <p>All readers of the topic will get it.</p>
      <Field label="Key" hint="Records of one key stay in order. May be empty.">
        {(id) => <input id={id} value={key} onChange={(event) => setKey(event.target.value)} />}
      </Field>
      <Field label="Value">{(id) => <textarea id={id} rows={6} required value={value} onChange={(event) => setValue(event.target.value)} />}</Field>
    </Ask>
  );
}
