// Objectives: how much of the error budget is left, and how fast it burns (1 is as fast as allowed).
import type { Objective } from '../../api/types';
import { Link } from '../../app/router';
import { number, percent } from '../../lib/format';
import { Empty } from '../../ui/Notes';

export function ObjectiveTable({ objectives }: { objectives: Objective[] }) {
  if (objectives.length === 0) {
    return (
      <Empty title="No objectives">
        An objective in a service.toml says what its users may expect.
      </Empty>
    );
  }
  return (
    <div className="scroll-x">
      <table>
        <thead>
          <tr>
            <th>Service</th>
            <th>Objective</th>
            <th className="wide">Window</th>
            <th>Budget left</th>
            <th className="right">Burns, 1 h</th>
            <th className="right">6 h</th>
          </tr>
        </thead>
        <tbody>
          {objectives.map((own) => (
            <tr key={`${own.service}-${own.kind}`}>
              <td>
                <Link to={`/services/${own.service}/limits`}>{own.service}</Link>
              </td>
              <td>
                {own.kind} {own.target}
              </td>
              <td className="wide">{own.window}</td>
              <td>
                <span className="budget">
                  <span className="budget-bar" aria-hidden="true">
                    <span className={own.budget_left < 0.2 ? 'budget-fill budget-low' : 'budget-fill'} style={{ width: `${Math.max(0, Math.min(1, own.budget_left)) * 100}%` }} />
                  </span>
                  <span className={own.budget_left < 0.2 ? 'num bad' : 'num'}>{own.budget_left < 0 ? `overspent by ${percent(-own.budget_left)}` : percent(own.budget_left)}</span>
                </span>
              </td>
              <td className={burnClass(own.burn_1h)}>{number(own.burn_1h)}×</td>
              <td className={burnClass(own.burn_6h)}>{number(own.burn_6h)}×</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function burnClass(burn: number): string {
  return burn >= 6 ? 'right num bad' : burn > 1 ? 'right num warn' : 'right num';
}
