//! Where the weights of a small network lie on a device, and the WGSL text that works one out for one point.

use std::fmt::Write;

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

    /// Iterations of all loops of one call of `lp_network`: some drivers count them.
    pub(crate) fn iterations(&self) -> usize {
        self.layers.iter().map(|layer| layer.n_out.div_ceil(4) * (layer.width() + 1)).sum::<usize>()
            + self.stride_in() / 4
    }

    /// Text of the constants `LP_NET_IN`, vec4 of a row of inputs, and `LP_NET_WEIGHTS`, vec4 of a network, and of
    ///
    /// ```wgsl
    /// fn lp_network(at: u32, x: ptr<function, array<vec4<f32>, LP_NET_IN>>) -> f32
    /// ```
    ///
    /// What the network says whose first vec4 is `buffer[at]`, a storage variable of type `array<vec4<f32>>`, of the inputs `x`: `n_in` values,
    /// then a 1, then zeros. NaN where an input is not finite, which a ReLU would hide. It calls the library's `is_finite` and `lp_nan`.
    ///
    /// Cost: `2 n_weights` floating-point operations; private memory for the two widest neighbouring layers.
    pub(crate) fn wgsl(&self, buffer: &str) -> String {
        let mut text = format!(
            "const LP_NET_IN: u32 = {}u;\nconst LP_NET_WEIGHTS: u32 = {}u;\n\
             fn lp_network(at: u32, x: ptr<function, array<vec4<f32>, LP_NET_IN>>) -> f32 {{\n\
             \x20   var sum = 0.0;\n\
             \x20   for (var k = 0u; k < LP_NET_IN; k++) {{\n\
             \x20       if !(is_finite((*x)[k].x) && is_finite((*x)[k].y) && is_finite((*x)[k].z) && is_finite((*x)[k].w)) {{\n\
             \x20           return lp_nan();\n        }}\n    }}\n",
            self.stride_in() / 4,
            self.n_weights() / 4
        );
        let last = self.layers.len().saturating_sub(1);
        // Writing to a String cannot fail.
        for (l, layer) in self.layers.iter().enumerate() {
            let Layer { start, n_out, .. } = *layer;
            let width = layer.width();
            let input = if l == 0 { "(*x)".to_owned() } else { format!("lp_net_{l}") };
            // Weighted sums of the `n` units from that of `row` on.
            let sums = |n: usize, indent: &str| {
                let terms: Vec<String> =
                    (0..4)
                        .map(|j| {
                            if j < n { format!("dot({buffer}[row + {}u + k], v)", j * width) } else { "0.0".to_owned() }
                        })
                        .collect();
                format!(
                    "{indent}var sums = vec4<f32>();\n{indent}for (var k = 0u; k < {width}u; k++) {{\n{indent}    let v = {input}[k];\n\
                     {indent}    sums += vec4<f32>({});\n{indent}}}\n",
                    terms.join(", ")
                )
            };
            if l == last {
                let _ = write!(
                    text,
                    "    let row = at + {start}u;\n    for (var k = 0u; k < {width}u; k++) {{\n        sum += dot({buffer}[row + k], {input}[k]);\n    }}\n"
                );
                continue;
            }
            let output = format!("lp_net_{}", l + 1);
            let _ = writeln!(text, "    var {output}: array<vec4<f32>, {}>;", n_out / 4 + 1);
            if n_out >= 4 {
                let _ = write!(
                    text,
                    "    for (var i = 0u; i < {}u; i++) {{\n        let row = at + {start}u + {}u * i;\n{}        {output}[i] = max(sums, vec4<f32>());\n    }}\n",
                    n_out / 4,
                    4 * width,
                    sums(4, "        ")
                );
            }
            let rest = n_out % 4;
            let one: Vec<&str> = (0..4).map(|j| if j == rest { "1.0" } else { "0.0" }).collect();
            let one = format!("vec4<f32>({})", one.join(", "));
            if rest == 0 {
                let _ = writeln!(text, "    {output}[{}] = {one};", n_out / 4);
            } else {
                let _ = write!(
                    text,
                    "    {{\n        let row = at + {}u;\n{}        {output}[{}] = max(sums, vec4<f32>()) + {one};\n    }}\n",
                    start + (n_out - rest) * width,
                    sums(rest, "        "),
                    n_out / 4
                );
            }
        }
        text + "    return sum;\n}\n"
    }
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
        for hidden in [vec![], vec![1], vec![4], vec![3, 8, 6], vec![100, 50, 20]] {
            for n_in in [1, 3, 4, 31] {
                let text = NetworkLayout::new(n_in, &hidden).wgsl("weights");
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
