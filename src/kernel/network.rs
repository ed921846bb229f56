//! Where the weights of a small network lie on a device, and the WGSL text that works one out for one point.

use std::fmt::Write;

use crate::backend::{DeviceKind, Gpu};

/// Rows of a workgroup that works networks out.
pub(crate) const NETWORK_TILE: usize = 64;

/// How many of them each invocation works out, a divisor. A GPU has use for many invocations; the software driver takes twenty cycles to read a weight for the
/// eight invocations that it runs as one, and one to use it.
pub(crate) fn network_rows(gpu: &Gpu) -> usize {
    if gpu.info.kind == DeviceKind::Software { 8 } else { 1 }
}

/// vec4 of weights that a workgroup holds at most, a multiple of four: 8 kB.
const STAGE: usize = 512;

/// One layer of a network: `n_out` rows of weights, each `width` vec4 long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layer {
    /// First vec4 of its rows, counted from the network's own first.
    pub(crate) start: usize,
    /// Inputs of a unit, without the 1 behind them that carries the bias.
    pub(crate) n_in: usize,
    /// Units.
    pub(crate) n_out: usize,
}

impl Layer {
    /// vec4 of a row: the weights of `n_in` inputs, the bias, zeros.
    pub(crate) fn width(&self) -> usize {
        width(self.n_in)
    }

    /// First vec4 behind its rows.
    fn end(&self) -> usize {
        self.start + self.n_out * self.width()
    }
}

/// vec4 that `n` values and a 1 behind them fill, with zeros in the rest.
fn width(n: usize) -> usize {
    n / 4 + 1
}

/// The shape of a network with ReLU layers and one linear output, and where its weights lie.
///
/// A network is one layer after the other; a layer one row for each of its units; a row the `n_in` weights of the unit's inputs, then its bias,
/// then zeros up to a multiple of four. Inputs have the same form, a 1 where the row has the bias, so that a unit is one dot product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkLayout {
    layers: Vec<Layer>,
}

impl NetworkLayout {
    /// A network of `n_in` inputs with so many units in each hidden layer; with none of those it is a linear function. All sizes are 1 or more.
    pub(crate) fn new(n_in: usize, hidden: &[usize]) -> Self {
        let mut layers: Vec<Layer> = Vec::with_capacity(hidden.len() + 1);
        let mut n_in = n_in;
        for n_out in hidden.iter().copied().chain([1]) {
            layers.push(Layer { start: layers.last().map_or(0, Layer::end), n_in, n_out });
            n_in = n_out;
        }
        Self { layers }
    }

    /// From the input to the output.
    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Floats of a row of inputs: `n_in` values, a 1, zeros.
    pub(crate) fn stride_in(&self) -> usize {
        self.layers.first().map_or(0, |layer| 4 * layer.width())
    }

    /// Floats of a network, the zeros of its rows included.
    pub(crate) fn n_weights(&self) -> usize {
        self.layers.last().map_or(0, |layer| 4 * layer.end())
    }

    /// Iterations of all loops of one call of `lp_network` for so many rows: some drivers count them.
    pub(crate) fn iterations(&self, rows: usize) -> usize {
        self.layers
            .chunks(2)
            .map(|pair| match pair {
                [first, second] => {
                    let items = items(first, second);
                    second.width() * (1 + items.div_ceil(NETWORK_TILE / rows) + items.div_ceil(STAGE))
                }
                _ => pair.iter().map(|layer| layer.width().div_ceil(NETWORK_TILE / rows) + 1).sum(),
            })
            .sum()
    }

    /// Text of the constants `LP_NET_IN`, vec4 of a row of inputs, `LP_NET_WEIGHTS`, vec4 of a network, `LP_NET_TILE`, rows of a workgroup, `LP_NET_ROWS`, those
    /// of an invocation, and `LP_NET_GROUP`, invocations of a workgroup, and of
    ///
    /// ```wgsl
    /// fn lp_network(at: u32, local: u32, x: ptr<function, array<vec4<f32>, LP_NET_IN * LP_NET_ROWS>>, out: ptr<function, array<f32, LP_NET_ROWS>>)
    /// ```
    ///
    /// What the network says whose first vec4 is `buffer[at]`, a storage variable of type `array<vec4<f32>>`, of `LP_NET_ROWS` rows of inputs `x`: each `n_in`
    /// values, then a 1, then zeros. NaN where an input is not finite, which a ReLU would hide. It calls the library's `lp_nan`.
    ///
    /// All invocations of a workgroup call it together, with the same `at`: they bring the weights to the memory of the workgroup piece by
    /// piece, and each reads all of a piece at places that are constants of the text. Layers go in pairs: four units of the first are worked out, and what they
    /// add to every unit of the second is added up in registers, so that no array is read at a place that only the loop knows. On a GPU such an array leaves the
    /// registers, and a software driver reads it, and weights at such a place, lane by lane.
    ///
    /// Cost: `2 n_weights` floating-point operations for each row; registers for the units of every second layer.
    pub(crate) fn wgsl(&self, buffer: &str, rows: usize) -> String {
        let width_in = self.stride_in() / 4;
        let mut text = format!(
            "const LP_NET_IN: u32 = {width_in}u;\nconst LP_NET_WEIGHTS: u32 = {}u;\nconst LP_NET_ROWS: u32 = {rows}u;\nconst LP_NET_GROUP: u32 = {}u;\nconst LP_NET_TILE: u32 = {NETWORK_TILE}u;\n\
             var<workgroup> lp_net_stage: array<vec4<f32>, {}>;\n\
             fn lp_network(at: u32, local: u32, x: ptr<function, array<vec4<f32>, {}>>, out: ptr<function, array<f32, {rows}>>) {{\n",
            self.n_weights() / 4,
            NETWORK_TILE / rows,
            self.stage(),
            width_in * rows,
        );
        // Writing to a String cannot fail.
        for (row, k) in each(rows, width_in) {
            let _ = writeln!(text, "    let in_0_{k}_{row} = (*x)[{}];", row * width_in + k);
        }
        let end = self.layers.len().div_ceil(2);
        for (l, pair) in self.layers.chunks(2).enumerate() {
            match pair {
                [first, second] => pair_wgsl(&mut text, buffer, (l, rows), first, second),
                _ => pair.iter().for_each(|layer| last_wgsl(&mut text, buffer, (l, rows), layer)),
            }
            if l + 1 < end {
                pair.last().into_iter().for_each(|layer| open_wgsl(&mut text, (l, rows), layer.n_out));
            }
        }
        let exponent = "vec4<u32>(0x7f800000u)";
        for row in 0..rows {
            let bad = |k| format!("any((bitcast<vec4<u32>>(in_0_{k}_{row}) & {exponent}) == {exponent})");
            let bad: Vec<String> = (0..width_in).map(bad).collect();
            let _ = writeln!(
                text,
                "    (*out)[{row}] = select(sum_{}_0_{row}.x, lp_nan(), {});",
                end - 1,
                bad.join(" || ")
            );
        }
        text + "}\n"
    }

    /// vec4 of the memory of a workgroup.
    fn stage(&self) -> usize {
        let items = self.layers.chunks(2).map(|pair| match pair {
            [first, second] => items(first, second),
            _ => pair.iter().map(Layer::width).sum(),
        });
        items.max().unwrap_or(1).min(STAGE)
    }
}

/// Every row with every one of `n`.
fn each(rows: usize, n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..n).map(move |k| (row, k)))
}

/// A vec4 with a 1 at one place.
fn one_at(place: usize) -> String {
    let one: Vec<&str> = (0..4).map(|j| if j == place { "1.0" } else { "0.0" }).collect();
    format!("vec4<f32>({})", one.join(", "))
}

/// The pieces that `n` vec4 come in, each with the text that brings it; `weight` is the text of vec4 `item`.
fn staged(text: &mut String, indent: &str, n: usize, weight: &str, mut piece: impl FnMut(&mut String, usize, usize)) {
    for first in (0..n).step_by(STAGE) {
        let end = n.min(first + STAGE);
        let _ = write!(
            text,
            "{indent}workgroupBarrier();\n{indent}for (var place = local; place < {}u; place += LP_NET_GROUP) {{\n\
             {indent}    let item = place + {first}u;\n{weight}\
             {indent}    lp_net_stage[place] = weight;\n{indent}}}\n{indent}workgroupBarrier();\n",
            end - first,
        );
        piece(text, first, end);
    }
}

/// vec4 that a step of two layers takes, a multiple of four.
fn items(first: &Layer, second: &Layer) -> usize {
    4 * first.width() + second.n_out.next_multiple_of(4)
}

/// Two layers: inputs `in_<l>` to sums `sum_<l>`.
fn pair_wgsl(text: &mut String, buffer: &str, (l, rows): (usize, usize), first: &Layer, second: &Layer) {
    let (width, n_mid, n_out) = (first.width(), first.n_out, second.n_out);
    let blocks = n_out.div_ceil(4);
    for (row, q) in each(rows, blocks) {
        let _ = writeln!(text, "    var sum_{l}_{q}_{row} = vec4<f32>();");
    }
    let steps = second.width();
    let _ = writeln!(text, "    for (var k = 0u; k < {steps}u; k++) {{");
    for row in 0..rows {
        let _ = writeln!(text, "        var mid_{row} = vec4<f32>();");
    }
    // First the four rows of the first layer's units, side by side, then a vec4 of each of the second layer's.
    let (n_first, n) = (4 * width, items(first, second));
    let weight = format!(
        "            let is_first = item < {n_first}u;\n\
         \x20           let unit = select(item - {n_first}u, 4u * k + item % 4u, is_first);\n\
         \x20           let start = select({}u + unit * {steps}u + k, {}u + unit * {width}u + item / 4u, is_first);\n\
         \x20           let is_there = unit < select({n_out}u, {n_mid}u, is_first);\n\
         \x20           let weight = select(vec4<f32>(), {buffer}[at + select(0u, start, is_there)], is_there);\n",
        second.start, first.start,
    );
    staged(text, "        ", n, &weight, |text, begin, end| {
        for item in (begin..end).step_by(4) {
            for j in 0..4 {
                let _ = writeln!(text, "        let w_{} = lp_net_stage[{}];", item + j, item + j - begin);
            }
            for row in 0..rows {
                let (input, sum) = if item < n_first {
                    (format!("in_{l}_{}_{row}", item / 4), format!("mid_{row}"))
                } else {
                    (format!("mid_{row}"), format!("sum_{l}_{}_{row}", (item - n_first) / 4))
                };
                let terms: Vec<String> = (0..4).map(|j| format!("dot(w_{}, {input})", item + j)).collect();
                let _ = writeln!(text, "        {sum} += vec4<f32>({});", terms.join(", "));
                if item + 4 == n_first {
                    let (one, last) = (one_at(n_mid % 4), steps - 1);
                    let _ = writeln!(
                        text,
                        "        mid_{row} = max(mid_{row}, vec4<f32>()) + select(vec4<f32>(), {one}, k == {last}u);"
                    );
                }
            }
        }
    });
    *text += "    }\n";
}

/// Sums `sum_<l>` of `n` units as inputs `in_<l + 1>`, through the ReLU and with a 1 behind them.
fn open_wgsl(text: &mut String, (l, rows): (usize, usize), n: usize) {
    for (row, q) in each(rows, n / 4 + 1) {
        let open = if 4 * q < n { format!("max(sum_{l}_{q}_{row}, vec4<f32>())") } else { "vec4<f32>()".to_owned() };
        let one = if q == n / 4 { format!(" + {}", one_at(n % 4)) } else { String::new() };
        let _ = writeln!(text, "    let in_{}_{q}_{row} = {open}{one};", l + 1);
    }
}

/// The output alone: inputs `in_<l>` to the sum `sum_<l>_0`.
fn last_wgsl(text: &mut String, buffer: &str, (l, rows): (usize, usize), layer: &Layer) {
    for row in 0..rows {
        let _ = writeln!(text, "    var sum_{l}_0_{row} = vec4<f32>();");
    }
    let weight = format!("        let weight = {buffer}[at + {}u + item];\n", layer.start);
    staged(text, "    ", layer.width(), &weight, |text, begin, end| {
        for (row, k) in each(rows, end).filter(|(_, k)| *k >= begin) {
            let _ = writeln!(text, "    sum_{l}_0_{row}.x += dot(lp_net_stage[{}], in_{l}_{k}_{row});", k - begin);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::library;
    use super::super::source::Source;
    use super::*;

    #[test]
    fn rows_follow_each_other_and_hold_the_bias() {
        let layout = NetworkLayout::new(3, &[4, 5]);
        let found: Vec<_> = layout.layers().iter().map(|l| (l.start, l.n_in, l.n_out, l.width())).collect();
        assert_eq!(found, [(0, 3, 4, 1), (4, 4, 5, 2), (14, 5, 1, 2)]);
        assert_eq!((layout.stride_in(), layout.n_weights()), (4, 64));
        assert_eq!(NetworkLayout::new(4, &[]).n_weights(), 8);
    }

    #[test]
    fn the_text_is_valid_for_every_remainder() {
        for hidden in [vec![], vec![1], vec![4], vec![3, 8, 6], vec![9, 700], vec![100, 50, 20]] {
            for (n_in, rows) in [(1, 1), (3, 2), (4, 1), (31, 4)] {
                let text = NetworkLayout::new(n_in, &hidden).wgsl("weights", rows);
                let source = Source::default()
                    .part(&library::text())
                    .part("@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>;")
                    .part(&text);
                if let Err(error) = source.check() {
                    panic!("{n_in} {hidden:?}: {error}\n{text}");
                }
            }
        }
    }
}
