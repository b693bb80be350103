//! The topology as a picture: Graphviz's language, and SVG that needs nothing else.

use bulkhead_types::{LinkStatus, TopologyAnswer};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// Roles from the top of a picture to its bottom.
const RANKS: [&str; 3] = ["spine", "leaf", "hypervisor"];
/// Sizes of the picture, in pixels: a switch's box, and the room between boxes.
const BOX: (usize, usize) = (120, 34);
const GAP: (usize, usize) = (24, 110);

fn colour(link: &LinkStatus) -> &'static str {
    match link.state.as_str() {
        "up" => "#2a7f3f",
        "unknown" => "#b08000",
        _ => "#c02020",
    }
}

/// Every switch that is declared, or that a link names.
fn ranks(topology: &TopologyAnswer) -> [Vec<String>; 3] {
    let ends = topology.links.iter().flat_map(|link| [link.a.switch.clone(), link.b.switch.clone()]);
    let all: BTreeSet<String> = topology.switches.iter().map(|switch| switch.name.clone()).chain(ends).collect();
    let role: BTreeMap<&str, &str> =
        topology.switches.iter().map(|switch| (switch.name.as_str(), switch.role.as_str())).collect();
    RANKS.map(|rank| {
        let of = |name: &&String| role.get(name.as_str()).copied().unwrap_or("hypervisor") == rank;
        all.iter().filter(of).cloned().collect()
    })
}

/// A string of Graphviz's language.
fn quoted(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_control());
    format!("\"{}\"", kept.collect::<String>().replace('\\', "\\\\").replace('"', "\\\""))
}

/// Graphviz's language.
pub fn dot(topology: &TopologyAnswer) -> String {
    let mut text = String::from("graph bulkhead {\n  node [shape=box];\n");
    for rank in ranks(topology).iter().filter(|rank| !rank.is_empty()) {
        let names: Vec<String> = rank.iter().map(|name| quoted(name)).collect();
        let _ = writeln!(text, "  {{ rank=same; {}; }}", names.join("; "));
    }
    for link in &topology.links {
        let [a, b, tail, head] = [&link.a.switch, &link.b.switch, &link.a.port, &link.b.port].map(|text| quoted(text));
        let style = if link.discovered { "solid" } else { "dashed" };
        let colour = colour(link);
        let _ = writeln!(
            text,
            "  {a} -- {b} [taillabel={tail}, headlabel={head}, color=\"{colour}\", style={style}, tooltip={}];",
            quoted(&format!("{} {}", link.state, link.why))
        );
    }
    text.push_str("}\n");
    text
}

/// Text in XML.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A picture: spines above, then leaves, then hypervisors; links that are up in green, not known in amber, others in red;
/// those that were not discovered dashed.
pub fn svg(topology: &TopologyAnswer) -> String {
    let ranks: Vec<Vec<String>> = ranks(topology).into_iter().filter(|rank| !rank.is_empty()).collect();
    let most = ranks.iter().map(Vec::len).max().unwrap_or(0);
    let width = GAP.0 + most * (BOX.0 + GAP.0);
    let height = GAP.0 + ranks.len() * (BOX.1 + GAP.1);
    let mut places: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (row, rank) in ranks.iter().enumerate() {
        for (column, name) in rank.iter().enumerate() {
            let x = (2 * column + 1) * width / (2 * rank.len());
            places.insert(name, (x, GAP.0 + row * (BOX.1 + GAP.1) + BOX.1 / 2));
        }
    }
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    // Links between the same two switches lie beside each other.
    let mut beside: BTreeMap<[&str; 2], usize> = BTreeMap::new();
    for link in &topology.links {
        let [a, b] = [link.a.switch.as_str(), link.b.switch.as_str()];
        let (Some((x1, y1)), Some((x2, y2))) = (places.get(a), places.get(b)) else { continue };
        let many = beside.entry(if a < b { [a, b] } else { [b, a] }).or_default();
        let aside = *many * 6;
        *many += 1;
        let dash = if link.discovered { "" } else { " stroke-dasharray=\"6 4\"" };
        let title = format!("{a}:{} - {b}:{} {} {}", link.a.port, link.b.port, link.state, link.why);
        let _ = writeln!(
            text,
            "<path d=\"M{} {y1} L{} {y2}\" stroke=\"{}\" stroke-width=\"2\" fill=\"none\"{dash}><title>{}</title></path>",
            x1 + aside,
            x2 + aside,
            colour(link),
            escaped(title.trim_end())
        );
    }
    let connected: BTreeSet<&str> =
        topology.switches.iter().filter(|switch| switch.connected).map(|switch| switch.name.as_str()).collect();
    for (name, (x, y)) in &places {
        let fill = if connected.contains(name) { "#ffffff" } else { "#d8d8d8" };
        let (left, top) = (x.saturating_sub(BOX.0 / 2), y.saturating_sub(BOX.1 / 2));
        let _ = writeln!(
            text,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" rx=\"4\" fill=\"{fill}\" stroke=\"#404040\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            BOX.0,
            BOX.1,
            y + 4,
            escaped(name)
        );
    }
    text.push_str("</svg>\n");
    text
}
