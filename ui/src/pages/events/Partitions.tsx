// The partitions of a topic, and how far behind each of its readers is in each of them.
import { at } from '../../api/paths';
import type { ReaderView } from '../../api/types';
import { useApi } from '../../api/use';
import { useQuery } from '../../app/router';
import { count } from '../../lib/format';
import { oneLine } from '../../lib/text';
import { ListTable } from '../../ui/ListTable';
import { Empty } from '../../ui/Notes';

export function Partitions({ topic }: { topic: string }) {
  const [query, set] = useQuery();
  const isOpen = query.get('partitions') === '1';
  return (
    <details className="panel pad-details" open={isOpen} onToggle={({ currentTarget: { open } }) => open !== isOpen && set({ partitions: open ? '1' : null }, true)}>
      <summary>Partitions</summary>
      {isOpen && <Table topic={topic} />}
    </details>
  );
}

function Table({ topic }: { topic: string }) {
  const found = useApi(at('/v1/topics/{topic}/partitions', { topic }), 5000);
  const all = useApi(at('/v1/readers'), 5000);
  const readers = all.data?.filter((own) => own.topic === topic) ?? [];
  return (
    <ListTable
      of={found}
      label="Partitions"
      head={['Partition', ['Records', 'right'], ['From', 'right wide'], ['Next', 'right wide'], ...readers.map((own): [string, string] => [`${called(own)} is behind`, 'right'])]}
      acts={false}
      cards
      none={<Empty title="It has no partitions" />}
    >
      {(own) => (
        <tr key={own.partition}>
          <td className="num">{own.partition}</td>
          <td data-label="records" className="right num">
            {count(own.end - own.start)}
          </td>
          <td className="right num wide dim">{own.start}</td>
          <td className="right num wide dim">{own.end}</td>
          {readers.map((reader) => (
            <Lag key={`${reader.name}-${reader.pushed}`} of={reader} partition={own.partition} />
          ))}
        </tr>
      )}
    </ListTable>
  );
}

/** A group may be called as a service is. */
function called(reader: ReaderView): string {
  const name = oneLine(reader.name, 120);
  return reader.pushed ? name : `group ${name}`;
}

function Lag({ of, partition }: { of: ReaderView; partition: number }) {
  const lag = of.lags.find((own) => own.partition === partition)?.lag;
  return (
    <td data-label={`${called(of)} behind`} className={lag !== undefined && lag > 1000 ? 'right num warn' : 'right num'}>
      {lag === undefined ? <span className="dim">never read</span> : count(lag)}
    </td>
  );
}
