// Parts of a page, as links: each has its own address.
import { Link } from '../app/router';

export interface TabLink {
  to: string;
  name: string;
  count?: number | undefined;
}

export function Tabs({ label, tabs, current }: { label: string; tabs: TabLink[]; current: string }) {
  return (
    <nav className="tabs" aria-label={label}>
      {tabs.map((tab) => (
        <Link key={tab.to} to={tab.to} className="tab" aria-current={tab.name === current ? 'page' : undefined}>
          {tab.name}
          {tab.count !== undefined && tab.count > 0 && <span className="tab-count">{tab.count.toLocaleString('en-US')}</span>}
        </Link>
      ))}
    </nav>
  );
}
