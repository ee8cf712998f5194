// The numbers of what was chosen on the map, and where to go from there.
import type { MapEdge, MapNode, MapView } from '../../api/types';
import { Link } from '../../app/router';
import { duration, percent, rate } from '../../lib/format';
import { placeOf, titleOf } from '../../lib/places';
import { State } from '../../ui/Badges';
import { Icon } from '../../ui/Icon';
import { edgeKey } from './Drawing';

interface Props {
  view: MapView;
  chosen: string | null;
  onClose: () => void;
}

export function Chosen({ view, chosen, onClose }: Props) {
  const node = view.nodes.find((own) => own.name === chosen);
  const edge = view.edges.find((own) => edgeKey(own) === chosen);
  const load = node ?? edge;
  if (!load) return null;
  const share = load.rate > 0 ? load.error_rate / load.rate : 0;
  return (
    <aside className="panel chosen-panel" aria-label="Chosen">
      <header>
        <h2>{node ? titleOf(node.name) : `${titleOf(edge?.from ?? '')} → ${titleOf(edge?.to ?? '')}`}</h2>
        <button type="button" className="btn btn-icon" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      <div className="pad stack">
        {node?.state !== null && node?.state !== undefined && <State state={node.state} />}
        <dl className="attributes plain-attributes">
          <Number name="Rate">{rate(load.rate)}</Number>
          <Number name="Errors">
            <span className={share >= 0.01 ? 'bad' : ''}>
              {percent(share)} ({rate(load.error_rate)})
            </span>
          </Number>
          <Number name="p50">{duration(load.p50_us)}</Number>
          <Number name="p95">{duration(load.p95_us)}</Number>
          <Number name="p99">{duration(load.p99_us)}</Number>
        </dl>
        <div className="bar">{node ? <OfNode node={node} view={view} /> : edge && <OfEdge edge={edge} view={view} />}</div>
      </div>
    </aside>
  );
}

function OfNode({ node, view }: { node: MapNode; view: MapView }) {
  return (
    <>
      <Link className="btn btn-main" to={placeOf(node.name, view)}>
        Open {titleOf(node.name)}
      </Link>
      {node.kind === 'service' && (
        <>
          <Link className="btn" to={`/logs?q=${encodeURIComponent(`service:${node.name} level>=warn`)}`}>
            Its errors
          </Link>
          <Link className="btn" to={`/traces?q=service:${node.name}&order=duration`}>
            Slowest traces
          </Link>
        </>
      )}
    </>
  );
}

function OfEdge({ edge, view }: { edge: MapEdge; view: MapView }) {
  const service = view.nodes.find((own) => own.name === edge.to)?.kind === 'service' ? edge.to : edge.from;
  return (
    <>
      <Link className="btn btn-main" to={placeOf(edge.to, view)}>
        Open {titleOf(edge.to)}
      </Link>
      <Link className="btn" to={placeOf(edge.from, view)}>
        Open {titleOf(edge.from)}
      </Link>
      <Link className="btn" to={`/traces?q=${encodeURIComponent(`service:${service} status:error`)}`}>
        Failed traces
      </Link>
    </>
  );
}

function Number({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className="num">{children}</dd>
    </div>
  );
}
