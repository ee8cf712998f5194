// The frame around every page: navigation, the palette, the account, live data for all.
import { Dialog, useDialogStore } from '@ariakit/react';
import { Suspense, useEffect, useRef } from 'react';
import { Toasts } from '../ui/Toast';
import { Icon } from '../ui/Icon';
import { Loading } from '../ui/Notes';
import { Account } from './Account';
import { Boundary } from './Boundary';
import { LiveProvider, useLiveStore, type Live } from './live';
import { Link, usePlace } from './router';
import { Palette } from './Palette';
import { isFilling, routed, titleOf } from './routes';
import { useShortcuts } from './shortcuts';
import { useVisiblePages } from './visible';
import { Help } from './Help';
import { at } from '../api/paths';
import { useApi } from '../api/use';

export function Shell({ onLogOut }: { onLogOut: () => void }) {
  const { path } = usePlace();
  const live = useLiveStore();
  const palette = useDialogStore();
  const help = useDialogStore();
  const drawer = useDialogStore();
  const main = useRef<HTMLElement>(null);
  const pages = useVisiblePages();
  const node = useApi(at('/v1/node'), 30_000).data;
  const shown = useRef(path);
  const { hide } = drawer;

  useShortcuts({ palette: () => palette.toggle(), help: () => help.show() });
  useEffect(() => {
    document.title = `${titleOf(path)} · ${node?.application ?? 'Atoll'}`;
  }, [path, node]);
  useEffect(() => {
    if (shown.current === path) return;
    shown.current = path;
    hide();
    scrollTo(0, 0);
    // Where a new page begins, for those who do not see it change.
    main.current?.focus({ preventScroll: true });
  }, [path, hide]);

  const side = (
    <>
      <Link to="/" className="brand">
        <img src="/icon.svg" alt="" />
        <span>
          {node?.application ?? 'Atoll'}
          <small>{node ? `Atoll ${node.version}` : ' '}</small>
        </span>
      </Link>
      <button type="button" className="jump" onClick={() => palette.show()}>
        <Icon name="search" /> Go to <kbd>{navigator.platform.startsWith('Mac') ? '⌘K' : 'Ctrl K'}</kbd>
      </button>
      <nav className="nav" aria-label="Pages">
        {pages.map((page) => (
          <Link key={page.path} to={page.path} aria-current={isWithin(path, page.path) ? 'page' : undefined}>
            <Icon name={page.icon} /> {page.name} <Hot page={page.path} live={live} />
          </Link>
        ))}
      </nav>
      <div className="side-foot">
        <Wire live={live} />
        <Account onLogOut={onLogOut} onHelp={() => help.show()} />
      </div>
    </>
  );
  return (
    <LiveProvider value={live}>
      <a className="skip" href="#main">
        Skip to the page
      </a>
      <div className="shell">
        <header className="side">{side}</header>
        <header className="top">
          <button type="button" className="btn btn-icon" aria-label="Menu" onClick={() => drawer.show()}>
            <Icon name="menu" />
          </button>
          <Link to="/" className="brand clip">
            {node?.application ?? 'Atoll'}
          </Link>
          <span className="spacer" />
          <button type="button" className="btn btn-icon" aria-label="Go to" onClick={() => palette.show()}>
            <Icon name="search" />
          </button>
        </header>
        <main id="main" ref={main} tabIndex={-1} className={isFilling(path) ? 'fill' : undefined}>
          <Boundary key={path}>
            <Suspense fallback={<Loading />}>{routed(path)}</Suspense>
          </Boundary>
        </main>
      </div>
      <Dialog store={drawer} className="drawer" aria-label="Menu" backdrop={<div className="backdrop" />} unmountOnHide>
        {side}
      </Dialog>
      <Palette store={palette} pages={pages} />
      <Help store={help} />
      <Toasts />
    </LiveProvider>
  );
}

function isWithin(path: string, page: string): boolean {
  if (page === '/') return path === '/' || path.startsWith('/services');
  return path === page || path.startsWith(`${page}/`);
}

function Hot({ page, live }: { page: string; live: Live }) {
  const firing = page === '/alerts' ? (live.alerts ?? []).filter((alert) => alert.state === 'firing' && alert.silenced_until === null).length : 0;
  const ill = page === '/' ? (live.services ?? []).filter((service) => service.state === 'failed' || service.state === 'degraded').length : 0;
  const hot = firing + ill;
  if (hot === 0) return null;
  return (
    <span className="tab-count hot">
      {hot}
      <span className="unseen"> need a look</span>
    </span>
  );
}

function Wire({ live }: { live: Live }) {
  const words = { open: 'Live', connecting: 'Connecting…', lost: 'Connection lost, trying again', refused: 'Polling', off: 'Polling' }[live.wire];
  return (
    <p className="wire" role="status">
      <span className={`dot ${live.wire === 'open' ? 'dot-ok' : live.wire === 'lost' ? 'dot-bad' : 'dot-busy'}`} aria-hidden="true" /> {words}
    </p>
  );
}
