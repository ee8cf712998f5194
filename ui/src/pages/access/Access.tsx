// Who may use this console and the API, and what they did. For admins.
import { Empty } from '../../ui/Notes';
import { useMay } from '../../app/session';
import { Tabs } from '../../ui/Tabs';
import { Audit } from './Audit';
import { Tokens } from './Tokens';

export default function Access({ part }: { part: string }) {
  const isAdmin = useMay('admin');
  if (!isAdmin) return <Empty page title="This page is for admins">Ask one for a token with that role.</Empty>;
  return (
    <>
      <h1 className="unseen">Access</h1>
      <Tabs
        label="Parts of access"
        current={part === 'audit' ? 'Audit' : 'Tokens'}
        tabs={[
          { to: '/access', name: 'Tokens' },
          { to: '/access/audit', name: 'Audit' },
        ]}
      />
      {part === 'audit' ? <Audit /> : <Tokens />}
    </>
  );
}
