// Jobs, the newest first: what was asked for, how it stands, and what can be done about it.
import { send, told } from '../../api/client';
import { at } from '../../api/paths';
import type { JobState, JobView } from '../../api/types';
import { useApi } from '../../api/use';
import { useQuery } from '../../app/router';
import { useMay } from '../../app/session';
import { pretty, shownText } from '../../lib/bytes';
import { oneLine } from '../../lib/text';
import { Ask } from '../../ui/Ask';
import { Long } from '../../ui/Attributes';
import { State } from '../../ui/Badges';
import { ListTable } from '../../ui/ListTable';
import { Empty } from '../../ui/Notes';
import { Pager, pageOf, useBefore } from '../../ui/Pager';
import { Ago, Moment } from '../../ui/Time';
import { toast } from '../../ui/Toast';

const PAGE = 100;

const STATES: JobState[] = ['queued', 'running', 'failed', 'done', 'cancelled'];

/** What tells jobs apart: their ids begin with their time, so those of one minute differ only at the end. */
const short = (id: string) => `…${id.slice(-8)}`;

export function Jobs() {
  const [query, set] = useQuery();
  const state = STATES.find((own) => own === query.get('state'));
  const queue = query.get('queue') ?? '';
  const open = query.get('job');
  const mayAct = useMay('operator');
  const before = useBefore();
  const all = useApi(at('/v1/jobs', { state, queue, before, limit: PAGE + 1 }), 5000);
  const [found, next] = pageOf(all, PAGE);
  const retry = (job: JobView) => {
    send('POST', '/v1/jobs/{id}/retry', { id: job.id }).then(
      () => {
        toast('It is queued again');
        found.reload();
      },
      (error: unknown) => toast(told(error), true),
    );
  };
  return (
    <>
      <div className="bar" role="group" aria-label="State">
        {['', ...STATES].map((own) => (
          <button key={own} type="button" className="btn btn-small" aria-pressed={(state ?? '') === own} onClick={() => set({ state: own, before: null })}>
            {own === '' ? 'all' : own}
          </button>
        ))}
        {queue !== '' && (
          <button type="button" className="btn btn-small" aria-pressed="true" onClick={() => set({ queue: null, before: null })}>
            {queue} ×
          </button>
        )}
      </div>
      <section className="panel">
        <ListTable
          of={found}
          label="Jobs"
          head={['Job', 'State', 'Queue', ['Asked by', 'wide'], ['Attempts', 'right wide'], 'Asked', ['Outcome', 'wide']]}
          acts={mayAct}
          cards
          none={
            before === undefined ? (
              <Empty title="No jobs">
                A service asks for one with <code>POST $EVENTS_URL/jobs/QUEUE</code>.
              </Empty>
            ) : (
              <Empty title="There are no older ones" />
            )
          }
        >
          {(job) => (
            <tr key={job.id}>
              <td>
                <button type="button" className="linkish mono" aria-expanded={open === job.id} onClick={() => set({ job: open === job.id ? null : job.id }, true)}>
                  {short(job.id)}
                </button>
                {open === job.id && <JobDetail job={job} />}
              </td>
              <td>
                <State state={job.state} />
              </td>
              <td>
                <button type="button" className="linkish" onClick={() => set({ queue: job.queue, before: null })}>
                  {job.queue}
                </button>
              </td>
              <td className="wide">{job.caller}</td>
              <td className="right num wide">{job.attempts}</td>
              <td className="nowrap">
                <Ago time={job.created} />
              </td>
              <td className="wide trouble-cell">{job.reason === null ? <span className="dim">{job.answer ? `answered ${job.answer.status}` : ''}</span> : <span className="bad">{oneLine(job.reason, 160)}</span>}</td>
              {mayAct && (
                <td className="right">
                  {(job.state === 'failed' || job.state === 'cancelled') && (
                    <button type="button" className="btn btn-small" onClick={() => retry(job)}>
                      Retry
                    </button>
                  )}
                  {(job.state === 'queued' || job.state === 'running') && (
                    <Ask
                      label="Cancel"
                      className="btn btn-small"
                      danger
                      title="Cancel this job?"
                      confirm="Cancel the job"
                      run={async () => {
                        await send('POST', '/v1/jobs/{id}/cancel', { id: job.id });
                        toast('It is cancelled');
                        found.reload();
                      }}
                    >
                      <p>It is not tried (again). What an attempt under way has begun, it may still end.</p>
                    </Ask>
                  )}
                </td>
              )}
            </tr>
          )}
        </ListTable>
        <Pager next={next} />
      </section>
    </>
  );
}

function JobDetail({ job }: { job: JobView }) {
  return (
    <div className="small job-detail">
      <p className="mono">{job.id}</p>
      <p>
        Done by {job.service}; asked <Moment time={job.created} exact={false} />
        {job.due !== null && (
          <>
            , due <Moment time={job.due} exact={false} />
          </>
        )}
        {job.finished !== null && (
          <>
            , over <Moment time={job.finished} exact={false} />
          </>
        )}
      </p>
      {job.reason !== null && <p className="bad">{oneLine(job.reason, 1000)}</p>}
      {job.answer && (
        <pre className="block">
          <Long text={pretty(shownText(job.answer.body))} max={8000} />
          {job.answer.cut && ' …'}
        </pre>
      )}
    </div>
  );
}
