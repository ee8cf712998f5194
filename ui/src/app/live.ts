// What the node tells by itself: services and alerts, at most once a second.
// One stream for the whole app; where it is not there, services are polled. From two pictures of
// an instance follows its processor use, and from a row of pictures the little curves.
import { createContext, useContext, useEffect, useState } from 'react';
import { aborted, ApiError, get } from '../api/client';
import { at } from '../api/paths';
import { useEvents, type Wire } from '../api/stream';
import type { Alert } from '../api/types';
import type { ServiceView } from '../api/types';
import { knowServices } from '../lib/hue';
import { cpuShares, remember, type Past } from '../lib/past';

const POLL_MS = 5000;

export interface Live {
  services: ServiceView[] | undefined;
  alerts: Alert[] | undefined;
  /** Processor use of each instance, in cores. */
  cpu: Record<string, number>;
  past: Past;
  wire: Wire;
  /** Why there are no services to show. */
  error: ApiError | undefined;
}

const empty: Live = { services: undefined, alerts: undefined, cpu: {}, past: {}, wire: 'off', error: undefined };
const LiveContext = createContext<Live>(empty);
export const LiveProvider = LiveContext.Provider;
export const useLive = () => useContext(LiveContext);

export function useLiveStore(): Live {
  const [state, setState] = useState<Live & { at: number }>({ ...empty, at: 0 });

  const take = (services: ServiceView[]) => {
    knowServices(services.map((own) => own.name));
    setState((old) => {
      const at = performance.now();
      const cpu = old.services ? cpuShares(old.services, services, (at - old.at) * 1e6, old.cpu) : {};
      return { ...old, services, cpu, at, error: undefined, past: remember(old.past, services, cpu) };
    });
  };
  const wire = useEvents(at('/v1/live'), {
    services: take,
    alerts: (data) => setState((old) => ({ ...old, alerts: data })),
  });

  useEffect(() => {
    const control = new AbortController();
    const load = () =>
      get(at('/v1/services'), control.signal).then(take, (error: unknown) => {
        if (!aborted(error) && error instanceof ApiError) setState((old) => ({ ...old, error }));
      });
    void load();
    const timer = wire === 'open' ? undefined : setInterval(() => void load(), POLL_MS);
    return () => {
      control.abort();
      clearInterval(timer);
    };
  }, [wire]);

  return { ...state, wire };
}
