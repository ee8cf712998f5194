// Which pages this node has: those whose endpoint its OpenAPI document names, and whose role the
// reader has. A node that does not tell has them all.
import { useMemo } from 'react';
import { at } from '../api/paths';
import { useApi } from '../api/use';
import { PAGES, type Page } from './pages';
import { useMay } from './session';

export function useVisiblePages(): Page[] {
  const { data } = useApi(at('/v1/openapi.json'));
  const isAdmin = useMay('admin');
  return useMemo(() => {
    const paths = Object.keys(data?.paths ?? {});
    return PAGES.filter((page) => (page.role !== 'admin' || isAdmin) && (paths.length === 0 || paths.includes(page.needs)));
  }, [data, isAdmin]);
}
