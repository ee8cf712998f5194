// The map as SVG: every box and line is a button.
import type { KeyboardEvent } from 'react';
import { duration, percent, rate } from '../../lib/format';
import { health, NODE, thickness, type Drawn, type Picture, type Placed } from '../../lib/graph';
import { titleOf } from '../../lib/places';

/** Smaller than this the texts cannot be read: then it scrolls. */
const LEAST = 0.68;

interface Props {
  drawn: Picture;
  chosen: string | null;
  onChoose: (at: string) => void;
}

export function edgeKey(edge: { from: string; to: string; kind: string }): string {
  return `${edge.from}>${edge.to}>${edge.kind}`;
}

export function Drawing({ drawn, chosen, onChoose }: Props) {
  const near = (edge: Drawn['edge']) => chosen === null || chosen === edgeKey(edge) || chosen === edge.from || chosen === edge.to;
  const isNear = (name: string) =>
    chosen === null || chosen === name || chosen.split('>').slice(0, 2).includes(name) || drawn.edges.some(({ edge }) => (edge.from === chosen && edge.to === name) || (edge.to === chosen && edge.from === name));
  return (
    <svg className="map" viewBox={`0 0 ${drawn.width} ${drawn.height}`} style={{ width: `min(100%, ${drawn.width}px)`, minWidth: drawn.width * LEAST }} role="group" aria-label="Services and their calls">
      <defs>
        {['ok', 'warn', 'bad', 'idle'].map((tone) => (
          <marker key={tone} id={`arrow-${tone}`} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">
            <path d="M0,0.5L8,4L0,7.5Z" className={`arrow health-${tone}`} />
          </marker>
        ))}
      </defs>
      {drawn.edges.map((own) => (
        <Line key={edgeKey(own.edge)} own={own} isChosen={chosen === edgeKey(own.edge)} isFaint={!near(own.edge)} onChoose={onChoose} />
      ))}
      {drawn.nodes.map((own) => (
        <Box key={own.node.name} own={own} isChosen={chosen === own.node.name} isFaint={!isNear(own.node.name)} onChoose={onChoose} />
      ))}
    </svg>
  );
}

function button(pressed: boolean, act: () => void) {
  return {
    role: 'button',
    tabIndex: 0,
    'aria-pressed': pressed,
    onClick: act,
    onKeyDown: (event: KeyboardEvent) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      act();
    },
  };
}

function Line({ own, isChosen, isFaint, onChoose }: { own: Drawn; isChosen: boolean; isFaint: boolean; onChoose: (at: string) => void }) {
  const { edge } = own;
  const tone = health(edge);
  const share = edge.rate > 0 ? edge.error_rate / edge.rate : 0;
  const label = `${rate(edge.rate)} from ${edge.from} to ${edge.to}, ${edge.kind}: ${percent(share)} fail`;
  return (
    <g className={`map-edge health-${tone}${isFaint ? ' faint' : ''}${isChosen ? ' chosen' : ''}${edge.kind === 'http' ? '' : ' map-event'}`} {...button(isChosen, () => onChoose(edgeKey(edge)))}>
      <title>{label}</title>
      <path d={own.path} className="map-grip" />
      <path d={own.path} className="map-line" strokeWidth={thickness(edge.rate)} markerEnd={`url(#arrow-${tone})`} />
      <text x={own.label.x} y={own.label.y - 6} className="map-rate">
        {rate(edge.rate)}
      </text>
    </g>
  );
}

function Box({ own, isChosen, isFaint, onChoose }: { own: Placed; isChosen: boolean; isFaint: boolean; onChoose: (at: string) => void }) {
  const { node } = own;
  const tone = health(node, node.state);
  const share = node.rate > 0 ? node.error_rate / node.rate : 0;
  const title = titleOf(node.name);
  const label = `${node.name} ${rate(node.rate)} ${node.p99_us > 0 ? duration(node.p99_us) : ''} ${percent(share)} fail, ${node.kind} ${node.state ?? ''}`;
  return (
    <g
      className={`map-node health-${tone} map-${node.kind}${isFaint ? ' faint' : ''}${isChosen ? ' chosen' : ''}`}
      transform={`translate(${own.x},${own.y})`}
      {...button(isChosen, () => onChoose(node.name))}
    >
      <title>{label}</title>
      <rect width={NODE.width} height={NODE.height} rx={node.kind === 'topic' ? 28 : 8} />
      {node.kind !== 'topic' && <path className="map-side" d={`M4,6V${NODE.height - 6}`} />}
      <text x={16} y={24} className="map-name">
        {title.length > 17 ? `${title.slice(0, 16)}…` : title}
      </text>
      <text x={16} y={43} className="map-numbers">
        {rate(node.rate)}
        {node.p99_us > 0 ? `  ${duration(node.p99_us)}` : ''}
        {share >= 0.01 && <tspan className="map-errors">{`  ${percent(share)}`}</tspan>}
      </text>
    </g>
  );
}
