// What holds requests back: breakers that are not closed, and instances that are left out. A breaker
// whose pause is over is half open: the next call is a trial. That is no alarm.
import type { ResilienceView } from '../api/types';
import { Link } from '../app/router';
import { oneLine } from '../lib/text';
import { serviceOf } from '../lib/wrong';
import { State } from './Badges';
import { Empty } from './Notes';

export function Held({ breakers, instances }: ResilienceView) {
  if (breakers.length + instances.length === 0) return <Empty title="Nothing">All breakers are closed, and all instances get their requests.</Empty>;
  return (
    <ul className="pad routes">
      {breakers.map((own) => (
        <li key={`${own.caller ?? ''}-${own.callee}`}>
          Breaker <State state={own.state} /> {own.caller ?? 'edge'} → <Link to={`/services/${own.callee}`}>{own.callee}</Link>: {oneLine(own.why, 300)}
        </li>
      ))}
      {instances.map((own) => (
        <li key={own.instance}>
          <State state={own.state} /> <Link to={`/services/${serviceOf(own.instance)}`}>{own.instance}</Link>: {oneLine(own.why ?? '', 300)}
        </li>
      ))}
    </ul>
  );
}
