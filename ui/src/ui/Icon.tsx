// Line icons, drawn for this console: 16 by 16, in the color of the text.
const PATHS: Record<string, string> = {
  overview: 'M2.5 2.5h4.5v4.5h-4.5zM9 2.5h4.5v4.5H9zM2.5 9h4.5v4.5h-4.5zM9 9h4.5v4.5H9z',
  map: 'M3.5 5.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM12.5 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM4.5 14.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM5.4 4.4l5.2 2.6M6.3 11.6l4.4-2.4M3.6 5.5l.7 5',
  logs: 'M2.5 3.5h11M2.5 6.5h8M2.5 9.5h11M2.5 12.5h6',
  traces: 'M2 3.5h7M5 6.5h6M7 9.5h7M7 12.5h3',
  metrics: 'M2 13.5h12M3 10.5l3-4 3 2.5 4-6',
  events: 'M2 4.5h4l2 3.5 2 3.5h4M2 11.5h4l1-1.8M10 4.5h4M9.3 6l.7-1.5M12.5 2.8l1.7 1.7-1.7 1.7M12.5 9.8l1.7 1.7-1.7 1.7',
  timeline: 'M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8zM8 4.5V8l2.4 1.6',
  alerts: 'M8 2a4 4 0 0 0-4 4v3l-1.2 2.2h10.4L12 9V6a4 4 0 0 0-4-4zM6.6 13.5h2.8',
  costs: 'M8 2v6h6A6 6 0 1 1 8 2zM10.5 2.2a6 6 0 0 1 3.3 3.3h-3.3z',
  gateway: 'M1.8 8h3.4M10.8 8h3.4M12.4 6l2 2-2 2M5.2 3.2h5.6v9.6H5.2z',
  access: 'M5.2 8.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM7.4 7.6l6 6M11.2 11.4l1.6-1.6',
  menu: 'M2 4h12M2 8h12M2 12h12',
  search: 'M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.7 10.7 14 14',
  close: 'M3.5 3.5l9 9M12.5 3.5l-9 9',
  right: 'M6 3l5 5-5 5',
  down: 'M3 6l5 5 5-5',
  copy: 'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3',
  check: 'M2.5 8.5l3.5 3.5 7.5-8',
  theme: 'M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12',
  play: 'M4.5 2.8v10.4l8.5-5.2z',
  pause: 'M5 3v10M11 3v10',
  warn: 'M8 2 1.5 13.5h13zM8 6.3v3.4M8 11.6v.4',
  more: 'M3 8h.01M8 8h.01M13 8h.01',
  out: 'M9.5 3h-6v10h6M6.5 8H14M11.5 5.5 14 8l-2.5 2.5',
  filter: 'M2 3h12L9.5 8.5V13L6.5 11.5v-3z',
};

export function Icon({ name }: { name: string }) {
  return (
    <svg className="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name] ?? ''} />
    </svg>
  );
}
