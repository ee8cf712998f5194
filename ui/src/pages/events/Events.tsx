// Events: topics, who reads them and how far behind, dead letters, jobs, outboxes.
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { Empty } from '../../ui/Notes';
import { Tabs } from '../../ui/Tabs';
import { Dead } from './Dead';
import { Jobs } from './Jobs';
import { Outboxes } from './Outboxes';
import { Readers } from './Readers';
import { Topic } from './Topic';
import { Topics } from './Topics';

const PARTS: Record<string, string> = { topics: 'Topics', readers: 'Readers', dead: 'Dead letters', jobs: 'Jobs', outboxes: 'Outboxes' };

export default function Events({ part, rest }: { part: string; rest: string }) {
  const dead = useApi(at('/v1/dead', { limit: 1000 }), 15_000).data;
  const current = PARTS[part === '' ? 'topics' : part];
  return (
    <>
      <h1 className="unseen">Events</h1>
      <Tabs
        label="Parts of events"
        current={current ?? ''}
        tabs={Object.entries(PARTS).map(([key, name]) => ({
          to: key === 'topics' ? '/events' : `/events/${key}`,
          name,
          count: key === 'dead' ? dead?.letters.length : undefined,
        }))}
      />
      {current === 'Topics' && (rest === '' ? <Topics /> : <Topic key={rest} name={rest} />)}
      {current === 'Readers' && <Readers />}
      {current === 'Dead letters' && <Dead />}
      {current === 'Jobs' && <Jobs />}
      {current === 'Outboxes' && <Outboxes />}
      {current === undefined && <Empty title="There is no such page" />}
    </>
  );
}
