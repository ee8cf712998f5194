// Numbers and times as people read them. Three significant digits at most, always a unit, the same
// width where possible; times in the reader's own zone, with the exact moment in a title.

const DASH = '–';

/** Three significant digits, without an exponent: 0.031, 1.25, 42.1, 950, 12,400. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return DASH;
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size >= 1000) return Math.round(value).toLocaleString('en-US');
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return String(Number(value.toFixed(digits)));
}

/** Shortened: 950, 12.4k, 3.1M. */
export function count(value: number): string {
  if (Math.abs(value) < 10_000) return number(value);
  if (Math.abs(value) < 1e6) return `${number(value / 1e3)}k`;
  if (Math.abs(value) < 1e9) return `${number(value / 1e6)}M`;
  return `${number(value / 1e9)}G`;
}

export function duration(us: number): string {
  if (!Number.isFinite(us)) return DASH;
  if (us < 1000) return `${number(us)} µs`;
  if (us < 1e6) return `${number(us / 1e3)} ms`;
  if (us < 120e6) return `${number(us / 1e6)} s`;
  const seconds = Math.round(us / 1e6);
  if (seconds < 7200) return two(Math.floor(seconds / 60), 'm', seconds % 60, 's');
  if (seconds < 172_800) return two(Math.floor(seconds / 3600), 'h', Math.floor((seconds % 3600) / 60), 'm');
  return two(Math.floor(seconds / 86_400), 'd', Math.floor((seconds % 86_400) / 3600), 'h');
}

function two(big: number, bigUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${big} ${bigUnit}` : `${big} ${bigUnit} ${small} ${smallUnit}`;
}

export function bytes(value: number): string {
  if (value < 1024) return `${number(value)} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let size = value / 1024;
  let at = 0;
  while (size >= 1000 && at < units.length - 1) {
    size /= 1024;
    at += 1;
  }
  return `${number(size)} ${units[at] ?? 'TiB'}`;
}

export function percent(share: number): string {
  const value = share * 100;
  if (value > 0 && value < 0.01) return '<0.01 %';
  return `${value >= 10 ? Math.round(value) : number(Math.round(value * 100) / 100)} %`;
}

export function rate(perSecond: number): string {
  if (perSecond === 0) return '0/s';
  if (perSecond < 0.1) return `${number(perSecond * 60)}/min`;
  return `${count(perSecond)}/s`;
}

/** How long ago: "now", "12 s", "4 m", "3 h", "2 d". */
export function ago(time: string | number, now = Date.now()): string {
  const seconds = Math.max(0, Math.round((now - millis(time)) / 1000));
  if (seconds < 2) return 'now';
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} m`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

export function millis(time: string | number): number {
  return typeof time === 'number' ? time : Date.parse(time);
}

/** Microseconds since 1970 of an RFC 3339 time; keeps the digits that Date drops. */
export function micros(time: string): number {
  const whole = Date.parse(time) * 1000;
  const rest = /\.\d{3}(\d{1,3})/.exec(time)?.[1];
  return rest === undefined ? whole : whole + Number(rest.padEnd(3, '0'));
}

/** 14:03:07.123 in the reader's zone. */
export function clock(time: string, withMillis = true): string {
  const date = new Date(time);
  const text = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, '0')).join(':');
  return withMillis ? `${text}.${String(date.getMilliseconds()).padStart(3, '0')}` : text;
}

/** Nov 21 */
export function date(time: string): string {
  return new Date(time).toLocaleDateString('en-US', { month: 'short', day: 'numeric' });
}

/** Nov 21 14:03, or with the year if it is another. */
export function day(time: string | number, now = new Date()): string {
  const date = new Date(time);
  const options: Intl.DateTimeFormatOptions = { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', hour12: false };
  if (date.getFullYear() !== now.getFullYear()) options.year = 'numeric';
  return date.toLocaleString('en-US', options);
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${value.toLocaleString('en-US')} ${value === 1 ? one : many}`;
}
