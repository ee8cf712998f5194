// A page that breaks does not take the console with it.
import { Component, type ReactNode } from 'react';

export class Boundary extends Component<{ children: ReactNode }, { broken: string | null }> {
  override state: { broken: string | null } = { broken: null };

  static getDerivedStateFromError(error: unknown) {
    return { broken: error instanceof Error ? error.message : String(error) };
  }

  override render() {
    if (this.state.broken === null) return this.props.children;
    return (
      <div className="note note-bad" role="alert">
        <p className="note-title">This page has broken</p>
        <div className="note-text">
          <p>{this.state.broken}</p>
          <button type="button" className="btn" onClick={() => location.reload()}>
            Load it again
          </button>
        </div>
      </div>
    );
  }
}
