// A secret that is told once: shown until it is dismissed, with a way to copy it.
import { Copy } from './Copy';

export function Secret({ name, secret, onDone }: { name: string; secret: string; onDone: () => void }) {
  return (
    <div className="secret" role="status">
      <p>
        <b>{name}</b>. It is shown this once: copy it now.
      </p>
      <p className="bar">
        <code className="long">{secret}</code> <Copy text={secret} label="Copy it" />
        <button type="button" className="btn btn-small" onClick={onDone}>
          I have it
        </button>
      </p>
    </div>
  );
}
