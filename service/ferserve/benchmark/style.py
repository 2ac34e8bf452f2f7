"""The report's style sheet: light and dark, from a phone's width up."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f5f2; --card: #ffffff; --ink: #1c1b22; --muted: #66646f; --line: #e4e2dc;
  --track: #efede8; --good: #4a45d6; --good-ink: #ffffff; --bad: #d9572b; --soft: #b9b6c4;
  --badge: #ecebfb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121217; --card: #1b1b22; --ink: #edecf2; --muted: #a09eab; --line: #2e2d38;
    --track: #27262f; --good: #8f8bff; --good-ink: #14131c; --bad: #ff8a5c; --soft: #5d5b6b;
    --badge: #2a2946;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%;
}
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 48px; }
header { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline;
  margin-bottom: 18px; }
header b { font-size: 17px; letter-spacing: -.01em; }
header span { color: var(--muted); }
h1, h2, h3, p, figure, table { margin: 0; }
h2 { font-size: 24px; letter-spacing: -.02em; margin: 40px 0 14px; overflow-wrap: anywhere; }
h2 small { font-size: 14px; font-weight: 400; color: var(--muted); letter-spacing: 0; }
h3 { font-size: 15px; margin-bottom: 2px; }
.note { color: var(--muted); font-size: 13px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: 20px; min-width: 0; }
.grid { display: grid; gap: 16px; grid-template-columns: repeat(2, minmax(0, 1fr)); }
.hero { display: grid; gap: 16px; grid-template-columns: minmax(0, 5fr) minmax(0, 7fr); }
.heads { display: grid; gap: 16px; align-content: stretch; }
.head { display: flex; flex-direction: column; justify-content: center; }
.head h1 { font-size: 16px; font-weight: 600; overflow-wrap: anywhere; }
.number { font-size: 68px; line-height: 1.1; font-weight: 700; letter-spacing: -.045em;
  color: var(--good); }
.number i { font-style: normal; font-size: .5em; font-weight: 600; letter-spacing: 0;
  margin-left: .08em; }
.many .number { font-size: 48px; }
.badge { display: inline-block; margin-top: 12px; padding: 4px 10px; border-radius: 99px;
  background: var(--badge); font-size: 13px; align-self: flex-start; }
.tiles { display: grid; gap: 12px; grid-template-columns: repeat(5, minmax(0, 1fr));
  margin: 0 0 16px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 12px 14px; }
.tile b { display: block; font-size: 21px; letter-spacing: -.02em; line-height: 1.25; }
.tile span { color: var(--muted); font-size: 12.5px; line-height: 1.35; display: block; }
.ladder { display: grid; row-gap: 3px; margin-top: 12px; font-size: 13px; }
.ladder > div { display: grid; grid-template-columns: minmax(0, 13.5em) minmax(0, 1fr) 3.6em;
  column-gap: 10px; align-items: center; min-height: 23px; }
.ladder .name { overflow-wrap: anywhere; line-height: 1.25; }
.ladder .value { text-align: right; }
.track { position: relative; height: 100%; min-height: 23px;
  background: linear-gradient(var(--line), var(--line)) center / 100% 1px no-repeat; }
.track i { position: absolute; top: 50%; border-radius: 99px; transform: translate(-50%, -50%); }
.track .dot { width: 10px; height: 10px; background: var(--soft); }
.track .published { background: var(--card); border: 2px solid var(--soft); }
.track .reference { background: var(--bad); }
.track .ours { width: 14px; height: 14px; background: var(--good); }
.track .span { height: 14px; background: var(--good); opacity: .25; transform: translateY(-50%); }
.ladder .us { font-weight: 700; color: var(--good); }
.axis .track { background: none; min-height: 16px; color: var(--muted); font-size: 11.5px; }
.axis .track span { position: absolute; transform: translateX(-50%); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin-top: 10px; font-size: 12.5px;
  color: var(--muted); }
.legend i { display: inline-block; width: 9px; height: 9px; border-radius: 99px;
  margin-right: 6px; background: var(--soft); }
.legend .reference { background: var(--bad); }
.legend .published { background: none; border: 2px solid var(--soft); }
table { border-collapse: collapse; width: 100%; }
.matrix { table-layout: fixed; border-collapse: separate; border-spacing: 2px; margin-top: 12px;
  font-size: 12.5px; }
.matrix th { font-weight: 500; color: var(--muted); font-size: 11.5px; padding: 0 0 2px;
  overflow: hidden; }
.matrix th[scope=row] { text-align: right; padding-right: 6px; }
.matrix col:first-child { width: 17%; }
.matrix td { text-align: center; padding: 0; height: 42px; border-radius: 6px; line-height: 1.15; }
.matrix td small { display: block; font-size: 10px; opacity: .75; }
.matrix .right { background: color-mix(in srgb, var(--good) var(--p), var(--track)); }
.matrix .wrong { background: color-mix(in srgb, var(--bad) var(--p), var(--track)); }
.matrix .strong { color: var(--good-ink); }
.short { display: none; }
.classes { margin-top: 12px; font-size: 13px; }
.classes th { font-weight: 500; color: var(--muted); font-size: 11.5px; text-align: right;
  padding: 0 0 6px 8px; }
.classes th:first-child, .classes td:first-child { text-align: left; padding-left: 0; }
.classes td { text-align: right; padding: 0 0 0 8px; height: 45px;
  border-top: 1px solid var(--line); }
.classes .wide { width: 34%; padding-left: 12px; }
.bar { position: relative; height: 14px; border-radius: 4px; background: var(--track); }
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: 4px; background: var(--good); }
.bar u { position: absolute; top: -4px; bottom: -4px; width: 2px; background: var(--ink); }
.bar .recall { background: var(--bad); }
.key { white-space: nowrap; margin-right: 14px; }
.key i { display: inline-block; width: 12px; height: 9px; border-radius: 2px; margin-right: 5px;
  background: var(--good); }
.key .tick { width: 2px; height: 12px; vertical-align: -2px; background: var(--ink); }
.key .recall { background: var(--bad); }
svg { display: block; width: 100%; max-width: 460px; height: auto; margin: 10px auto 0; }
svg text { fill: var(--muted); font-size: 11.5px; }
svg .grid-line { stroke: var(--line); }
svg .ideal { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .bin { fill: var(--good); opacity: .9; }
svg .gap { fill: var(--bad); opacity: .35; }
svg .count { fill: var(--soft); }
.words { margin: 12px 0 0; padding: 0; list-style: none; }
.words li { padding: 9px 0; border-top: 1px solid var(--line); }
.words li:first-child { border-top: 0; }
.mistakes { display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: 16px;
  margin-top: 14px; }
.mistakes figure { font-size: 12px; line-height: 1.3; }
.mistakes img { width: 100%; aspect-ratio: 1; display: block; border-radius: 8px;
  margin-bottom: 5px; background: var(--track); }
.mistakes s { text-decoration: none; color: var(--bad); font-weight: 600; }
.scroll { overflow-x: auto; }
.models { margin-top: 10px; font-size: 14px; }
.models th { text-align: right; font-weight: 500; color: var(--muted); font-size: 12px;
  padding: 4px 0 6px 14px; }
.models td { text-align: right; border-top: 1px solid var(--line); padding: 8px 0 8px 14px; }
.models th:first-child, .models td:first-child { text-align: left; padding-left: 0; }
.stack > * + * { margin-top: 16px; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 18px; margin: 0;
  font-size: 13px; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
code { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
progress { width: 100%; height: 12px; accent-color: var(--good); margin: 12px 0 4px; }
footer { margin-top: 28px; color: var(--muted); font-size: 13px; }
@media (max-width: 760px) {
  main { padding: 18px 14px 36px; }
  .grid, .hero { grid-template-columns: minmax(0, 1fr); }
  .card { padding: 16px 14px; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; }
  .tile:last-child:nth-child(odd) { grid-column: span 2; }
  .number { font-size: 60px; }
  .ladder > div { grid-template-columns: minmax(0, 10.5em) minmax(0, 1fr) 3.4em;
    column-gap: 8px; }
  .matrix td { height: 38px; font-size: 12px; }
  .full { display: none; }
  .short { display: inline; }
  .classes .wide { width: 25%; }
  .classes td, .classes th { padding-left: 6px; }
  svg text { font-size: 14px; }
  .mistakes { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  dl { grid-template-columns: minmax(0, 1fr); }
  dd { margin-bottom: 6px; }
}
@media print {
  body { background: #fff; }
  .card, .tile { break-inside: avoid; }
}
"""
