"""The table of `unift.estimate` as one self-contained page, with the break-even as a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:.35rem .6rem;border-bottom:1px solid #8884;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{position:sticky;left:0;background:Canvas;white-space:nowrap}
td:last-child{white-space:nowrap}
.no{color:#b3261e}.dim{opacity:.7}li{margin:.15rem 0}
svg{width:100%;min-width:34rem;max-width:720px;height:auto}
svg text{font:13px system-ui,sans-serif;fill:currentColor}
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 300, 80, 44


def write_estimate(document: Mapping[str, Any], path: str | Path, title: str) -> Path:
    """Write the ``--json`` document of ``unift estimate`` as a page.

    Returns:
        Where it is.

    Raises:
        OSError: The file cannot be written.
    """
    rows = [_row(one) for one in document["rows"]]
    head = "".join(
        f"<th{' class=n' if name[0] == '*' else ''}>{name.lstrip('*')}</th>"
        for name in (
            "provider",
            "model",
            "fits",
            "*GiB",
            "*hours",
            "*USD to train",
            "*USD per 1,000 answers",
            "*USD a month",
            "weights yours",
            "ends on",
        )
    )
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{Markup.escape(title)}</title>"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style><h1>{Markup.escape(title)}</h1>",
        '<div class="wide" tabindex="0" role="region" aria-label="ways, side by side">'
        f"<table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>",
        _break_even(document.get("break_even")),
        "<h2>What this rests on</h2>",
        *(_notes(one) for one in document["rows"]),
    ]
    target = Path(path)
    target.write_text("\n".join(str(part) for part in parts), encoding="utf-8")
    return target


def _row(one: Mapping[str, Any]) -> str:
    memory: Mapping[str, Any] = one.get("memory") or {}
    fits = {True: "yes", False: "no", None: "-"}[one.get("fits")]
    able = one.get("fits") is not False  # what does not fit takes no time there
    low, high = one.get("price_low_usd"), one.get("price_high_usd")
    price = _money(one.get("price_usd")) if able else "-"
    if able and low is not None and high is not None and high > low:
        price += f' <span class="dim">({_money(low)} to {_money(high)})</span>'
    yours = {True: "yes", False: "no", None: "-"}[one.get("weights_yours")]
    why = one.get("reason") or one.get("advice")
    notes = [one["hardware"]] if one.get("hardware") else []
    notes += [why] if why else []
    note = "".join(f'<br><span class="dim">{Markup.escape(text)}</span>' for text in notes)
    answers = _money(one.get("usd_per_1000_answers"))
    if one.get("untuned_usd_per_1000_answers") is not None:
        untuned = _money(one["untuned_usd_per_1000_answers"])
        answers += f'<br><span class="dim">untuned {untuned}</span>'
    cells = [
        f"<td>{Markup.escape(one['provider'])}</td>",
        f"<td>{Markup.escape(one['model'])}{note}</td>",
        f"<td{' class=no' if fits == 'no' else ''}>{fits}</td>",
        f"<td class=n>{_number(memory.get('reserved_gib'), '.1f')}</td>",
        f"<td class=n>{_number(one.get('hours'), '.3g') if able else '-'}</td>",
        f"<td class=n>{price}</td>",
        f"<td class=n>{answers}</td>",
        f"<td class=n>{_money(one.get('usd_per_month'))}</td>",
        f"<td>{yours}</td>",
        f"<td>{Markup.escape(one.get('ends_on') or '-')}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _notes(one: Mapping[str, Any]) -> str:
    lines = [str(note) for note in one.get("assumptions", ())]
    for source in one.get("sources", ()):
        stale = ", check it before relying on it" if source.get("stale") else ""
        lines.append(
            f"{source['what']}: {'; '.join(source['source'])} ({source['as_of']}, "
            f"{source['age_days']} days old{stale})"
        )
    items = "".join(f"<li>{Markup.escape(line)}</li>" for line in lines)
    name = Markup.escape(f"{one['provider']} {one['model']}")
    return f"<details><summary>{name}</summary><ul>{items}</ul></details>"


def _break_even(found: Mapping[str, Any] | None) -> str:
    """Monthly cost over answers a month: a line for the API, a flat one for the GPU."""
    if not found:
        return ""
    from unift.estimate._break_even import break_even_words

    said = break_even_words(found)
    said = said[0].upper() + said[1:] + "."
    per_answer = float(found["api"]["usd_per_answer"])
    month, point = float(found["gpu"]["usd_per_month"]), float(found["answers_per_month"] or 0)
    if point < 1 or per_answer <= 0:
        return f"<h2>Break-even</h2><p>{Markup.escape(said)}</p>"
    middle = math.log10(point)
    first, last = math.floor(middle) - 1, math.ceil(middle) + 1
    top = math.log10(max(month, per_answer * 10**last))
    base = math.log10(min(month, per_answer * 10**first))

    def at(answers: float, usd: float) -> tuple[float, float]:
        x = _LEFT + (math.log10(answers) - first) / (last - first) * (_WIDTH - _LEFT - 20)
        y = (_HEIGHT - _BOTTOM) * (1 - (math.log10(usd) - base) / (top - base)) + 10
        return round(x, 1), round(y, 1)

    low, high = 10.0**first, 10.0**last
    (x0, y0), (x1, y1) = at(low, per_answer * low), at(high, per_answer * high)
    (g0, gy), (g1, _) = at(low, month), at(high, month)
    px, py = at(point, month)
    bottom = _HEIGHT - _BOTTOM + 10
    ticks = "".join(
        f'<text x="{at(10.0**power, month)[0]}" y="{bottom + 18}" '
        f'text-anchor="{"end" if power == last else "middle"}">{10**power:,}</text>'
        for power in range(max(first, 0), last + 1)
    )
    levels = "".join(
        f'<text x="{_LEFT - 8}" y="{at(low, 10.0**power)[1] + 4}" text-anchor="end">'
        f"{10.0**power:,.0f}</text>"
        for power in range(math.ceil(base), math.floor(top) + 1)
        if power >= 0
    )
    api, gpu = Markup.escape(found["api"]["provider"]), Markup.escape(found["gpu"]["hardware"])
    said = Markup.escape(said)
    return (
        f"<h2>Break-even</h2><p>{said}</p>"
        '<div class="wide" tabindex="0" role="region" aria-label="break-even, drawn">'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 16}" role="img" aria-label="{said}">'
        f'<path d="M{_LEFT} 10V{bottom}H{_WIDTH - 20}" fill="none" stroke="currentColor"/>'
        f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#c2410c" stroke-width="2"/>'
        f'<line x1="{g0}" y1="{gy}" x2="{g1}" y2="{gy}" stroke="#1d4ed8" stroke-width="2"/>'
        f'<circle cx="{px}" cy="{py}" r="5" fill="currentColor"/>'
        f'<text x="{px - 8}" y="{py - 10}" text-anchor="end">{point:,.0f}</text>'
        f'<text x="{x1 - 48}" y="{y1 + 6}" text-anchor="end">{api}</text>'
        f'<text x="{g1 - 8}" y="{gy + 18}" text-anchor="end">{gpu}, all month</text>'
        f"{ticks}{levels}"
        f'<text x="{(_LEFT + _WIDTH) / 2}" y="{bottom + 40}" text-anchor="middle">'
        "answers a month</text>"
        f'<text x="14" y="{_HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {_HEIGHT / 2})">USD a month</text></svg></div>'
        f'<p class="dim">{Markup.escape("; ".join(found.get("assumptions", ())))}</p>'
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _money(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2g}" if 0 < value < 0.01 else f"{value:,.2f}"
