// A moment: short for the eye, exact in the title.
import { useEffect, useState } from 'react';
import { ago, clock, date, day } from '../lib/format';

export function useNow(every = 5000): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

export function Ago({ time, suffix = false }: { time: string; suffix?: boolean }) {
  const text = ago(time, useNow());
  return (
    <time dateTime={time} title={new Date(time).toString()}>
      {text}
      {suffix && text !== 'now' ? ' ago' : ''}
    </time>
  );
}

/** Hours to milliseconds; the day too, if it is not today. */
export function Moment({ time, exact = true }: { time: string; exact?: boolean }) {
  const isToday = new Date(time).toDateString() === new Date().toDateString();
  return (
    <time dateTime={time} title={`${time} (${new Date(time).toString()})`} className="num">
      {isToday ? clock(time, exact) : exact ? `${date(time)} ${clock(time, false)}` : day(time)}
    </time>
  );
}
