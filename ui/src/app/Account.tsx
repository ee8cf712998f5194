// The reader: name and role, the theme, the keys, the way out.
import { Menu, MenuButton, MenuItem, MenuItemRadio, MenuProvider } from '@ariakit/react';
import { Icon } from '../ui/Icon';
import { useMe } from './session';
import { setTheme, useTheme, type Theme } from './theme';

const THEMES: [Theme, string][] = [
  ['system', 'As the system'],
  ['light', 'Light'],
  ['dark', 'Dark'],
];

export function Account({ onLogOut, onHelp }: { onLogOut: () => void; onHelp: () => void }) {
  const me = useMe();
  const theme = useTheme();
  return (
    <MenuProvider placement="top-start">
      <MenuButton className="who">
        <Icon name="theme" />
        <span className="clip">
          {me.name} <span className="dim small">{me.role}</span>
        </span>
      </MenuButton>
      <Menu className="menu" gutter={6} portal>
        <p className="menu-head">Theme</p>
        {THEMES.map(([value, name]) => (
          <MenuItemRadio key={value} name="theme" value={value} checked={theme === value} className="menu-item" onClick={() => setTheme(value)}>
            {name}
          </MenuItemRadio>
        ))}
        <hr />
        <MenuItem className="menu-item" onClick={onHelp}>
          Keys
        </MenuItem>
        <MenuItem className="menu-item" onClick={onLogOut}>
          <Icon name="out" /> Log out
        </MenuItem>
      </Menu>
    </MenuProvider>
  );
}
