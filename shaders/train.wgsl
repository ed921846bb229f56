// Trains networks by Adam on shuffled minibatches: one workgroup for each network, its invocations share the work of a step.
//
// A step is forward through the layers, backward through them, and then each invocation that has summed up some gradients moves their weights at once.
// Activations lie feature by feature, a row holds the batch in fours of points (columns). So all three products are sum += m w of 4 x 4 tiles in registers:
//
//   forward   out[unit]      += inputs[four inputs, four points] w[four inputs, unit]
//   backward  d[input]       += d[four units, four points] w[four units, input]
//   gradient  g[unit]        += inputs^T[four points, four inputs] d[four points, unit]
//
// Neighbouring invocations have neighbouring columns (forward, backward) or inputs (gradient): what they read lies side by side, or is the same.

const LP_GROUP: u32 = 256u;
const LP_CONSTANT: u32 = 0u;
const LP_LINEAR: u32 = 1u;

// What all networks are told; the twin of `Training` on the host.
struct LpTraining {
    // Steps of this dispatch.
    first: u32, n_steps: u32,
    schedule: u32, patience: u32,
    rate: f32, tol: f32, beta_1: f32, beta_2: f32, log_beta_1: f32, log_beta_2: f32,
    // epsilon^2
    guard: f32,
    zero: u32,
}

// What one network is told; the twin of `Task` on the host.
struct LpTask {
    key: vec2<u32>,
    // The points that it leaves out.
    fold_start: u32, fold_size: u32,
    // Those that it learns from, and the side of the grid that shuffles them.
    n_points: u32, side: u32,
    n_batches: u32, n_steps: u32,
    // Fours of points of the largest batch, an even number, and the first vec4 of its activations.
    columns: u32, slab: u32,
    padding_0: u32, padding_1: u32,
}

// How the epochs went, for a constant rate only.
struct LpProgress { loss: f32, best: f32, stalled: u32, stopped: u32 }

@group(0) @binding(0) var<uniform> lp_training: LpTraining;
@group(0) @binding(1) var<storage, read> lp_tasks: array<LpTask>;
@group(0) @binding(2) var<storage, read> lp_x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> lp_y: array<f32>;
@group(0) @binding(4) var<storage, read_write> lp_weights: array<vec4<f32>>;
// First and second moment of each vec4 of weights.
@group(0) @binding(5) var<storage, read_write> lp_moments: array<vec4<f32>>;
// Rows of activations and of gradients with respect to them.
@group(0) @binding(6) var<storage, read_write> lp_rows: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> lp_progress: array<LpProgress>;

// The rows of x that some places of the batch hold.
var<workgroup> lp_points: array<u32, LP_GROUP>;
var<workgroup> lp_stopped: u32;

// First vec4 of the network's weights, and its task.
var<private> lp_at: u32;
var<private> lp_task: LpTask;

fn lp_place(row: u32, column: u32) -> u32 {
    return lp_task.slab + row * lp_task.columns + column;
}

// Four rows of four points.
fn lp_four(row: u32, column: u32) -> mat4x4<f32> {
    let at = lp_place(row, column);
    let columns = lp_task.columns;
    return mat4x4<f32>(lp_rows[at], lp_rows[at + columns], lp_rows[at + 2u * columns], lp_rows[at + 3u * columns]);
}

// The weights of four units for the inputs 4k to 4k + 3; of the last unit where there are none.
fn lp_four_weights(layer: LpLayer, unit: u32, k: u32) -> mat4x4<f32> {
    let units = min(vec4<u32>(unit) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(layer.n_out - 1u));
    let at = units * layer.width + vec4<u32>(lp_at + layer.start + k);
    return mat4x4<f32>(lp_weights[at.x], lp_weights[at.y], lp_weights[at.z], lp_weights[at.w]);
}

fn lp_add_column(sum: vec4<f32>, m: mat4x4<f32>, w: vec4<f32>) -> vec4<f32> {
    return fma(m[3], vec4<f32>(w.w), fma(m[2], vec4<f32>(w.z), fma(m[1], vec4<f32>(w.y), fma(m[0], vec4<f32>(w.x), sum))));
}

// sum + m w
fn lp_add(sum: mat4x4<f32>, m: mat4x4<f32>, w: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        lp_add_column(sum[0], m, w[0]),
        lp_add_column(sum[1], m, w[1]),
        lp_add_column(sum[2], m, w[2]),
        lp_add_column(sum[3], m, w[3]),
    );
}

// First place of a batch: the first ones have a point more where they cannot all be of one size.
fn lp_first_place(batch: u32) -> u32 {
    let n = lp_task.n_points;
    return batch * (n / lp_task.n_batches) + min(batch, n % lp_task.n_batches);
}

// Brings the inputs and targets of a step's batch; the last point again and again to the end of the last tile.
fn lp_load(step: u32, local: u32) {
    let batch = step % lp_task.n_batches;
    let begin = lp_first_place(batch);
    let end = lp_first_place(batch + 1u);
    for (var first = 0u; first < lp_task.columns; first += LP_GROUP / 4u) {
        if 4u * first + local < 4u * lp_task.columns {
            let order = lp_philox(vec4<u32>(0u, step / lp_task.n_batches, 0u, 0u), lp_task.key);
            let place = min(begin + 4u * first + local, end - 1u);
            let point = lp_shuffled(place, lp_task.n_points, lp_task.side, order);
            lp_points[local] = select(point, point + lp_task.fold_size, point >= lp_task.fold_start);
        }
        workgroupBarrier();
        let n = min(lp_task.columns - first, LP_GROUP / 4u);
        for (var item = local; item < LP_NET_IN * n; item += LP_GROUP) {
            let k = item / n;
            let place = 4u * (item % n);
            let column = first + item % n;
            let points = vec4<u32>(lp_points[place], lp_points[place + 1u], lp_points[place + 2u], lp_points[place + 3u]);
            let at = points * LP_NET_IN + vec4<u32>(k);
            let x = transpose(mat4x4<f32>(lp_x[at.x], lp_x[at.y], lp_x[at.z], lp_x[at.w]));
            lp_rows[lp_place(4u * k, column)] = x[0];
            lp_rows[lp_place(4u * k + 1u, column)] = x[1];
            lp_rows[lp_place(4u * k + 2u, column)] = x[2];
            lp_rows[lp_place(4u * k + 3u, column)] = x[3];
            if k == 0u {
                // The output's gradient takes the place of the targets.
                lp_rows[lp_place(LP_OUTPUT.gradient, column)] =
                    vec4<f32>(lp_y[points.x], lp_y[points.y], lp_y[points.z], lp_y[points.w]);
                lp_pad(column);
            }
        }
        workgroupBarrier();
    }
    storageBarrier();
}

// Outputs of a ReLU layer, 4 units x 8 points a tile, to the rows from `to` on.
fn lp_forward(layer: LpLayer, to: u32, local: u32) {
    let half = lp_task.columns / 2u;
    for (var tile = local; tile < (layer.n_out + 3u) / 4u * half; tile += LP_GROUP) {
        let unit = tile / half * 4u;
        let column = tile % half;
        var left = mat4x4<f32>();
        var right = mat4x4<f32>();
        for (var k = 0u; k < layer.width; k++) {
            let w = lp_four_weights(layer, unit, k);
            left = lp_add(left, lp_four(layer.input + 4u * k, column), w);
            right = lp_add(right, lp_four(layer.input + 4u * k, column + half), w);
        }
        lp_keep_open(to, unit, layer.n_out, column, left);
        lp_keep_open(to, unit, layer.n_out, column + half, right);
    }
}

fn lp_keep_open(to: u32, unit: u32, n_out: u32, column: u32, values: mat4x4<f32>) {
    let at = lp_place(to + unit, column);
    let columns = lp_task.columns;
    lp_rows[at] = max(values[0], vec4<f32>());
    if unit + 1u < n_out { lp_rows[at + columns] = max(values[1], vec4<f32>()); }
    if unit + 2u < n_out { lp_rows[at + 2u * columns] = max(values[2], vec4<f32>()); }
    if unit + 3u < n_out { lp_rows[at + 3u * columns] = max(values[3], vec4<f32>()); }
}

// The output, and what it lacks: the gradient of half the mean squared error, in the place of the targets.
fn lp_answer(layer: LpLayer, step: u32, local: u32) {
    let batch = step % lp_task.n_batches;
    let n = lp_first_place(batch + 1u) - lp_first_place(batch);
    for (var column = local; column < lp_task.columns; column += LP_GROUP) {
        var sum = vec4<f32>();
        for (var k = 0u; k < layer.width; k++) {
            sum = lp_add_column(sum, lp_four(layer.input + 4u * k, column), lp_weights[lp_at + layer.start + k]);
        }
        let at = lp_place(layer.gradient, column);
        let counts = vec4<u32>(4u * column) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(n);
        lp_rows[at] = select(vec4<f32>(), (sum - lp_rows[at]) / f32(n), counts);
    }
}

// Gradients with respect to a layer's inputs, 4 inputs x 8 points a tile, to the rows from `to` on: 0 where the ReLU was shut.
fn lp_backward(layer: LpLayer, to: u32, local: u32) {
    let half = lp_task.columns / 2u;
    for (var tile = local; tile < (layer.n_in + 3u) / 4u * half; tile += LP_GROUP) {
        let k = tile / half;
        let column = tile % half;
        var left = mat4x4<f32>();
        var right = mat4x4<f32>();
        for (var unit = 0u; unit < layer.n_out; unit += 4u) {
            let w = transpose(lp_four_weights(layer, unit, k));
            left = lp_add(left, lp_four(layer.gradient + unit, column), w);
            right = lp_add(right, lp_four(layer.gradient + unit, column + half), w);
        }
        lp_keep_gated(layer, to, 4u * k, column, left);
        lp_keep_gated(layer, to, 4u * k, column + half, right);
    }
}

fn lp_keep_gated(layer: LpLayer, to: u32, input: u32, column: u32, values: mat4x4<f32>) {
    let open = lp_four(layer.input + input, column);
    let at = lp_place(to + input, column);
    let columns = lp_task.columns;
    lp_rows[at] = select(vec4<f32>(), values[0], open[0] > vec4<f32>());
    if input + 1u < layer.n_in { lp_rows[at + columns] = select(vec4<f32>(), values[1], open[1] > vec4<f32>()); }
    if input + 2u < layer.n_in { lp_rows[at + 2u * columns] = select(vec4<f32>(), values[2], open[2] > vec4<f32>()); }
    if input + 3u < layer.n_in { lp_rows[at + 3u * columns] = select(vec4<f32>(), values[3], open[3] > vec4<f32>()); }
}

// Adam's rate with its bias corrections (Kingma & Ba 2015).
fn lp_rate(step: u32) -> f32 {
    let left = f32(lp_task.n_steps - step) / f32(lp_task.n_steps);
    var rate = lp_training.rate;
    if lp_training.schedule == LP_LINEAR {
        rate *= left;
    } else if lp_training.schedule != LP_CONSTANT {
        let s = sin(1.5707964 * left);
        rate *= s * s;
    }
    let t = f32(step + 1u);
    return rate * sqrt(-expm1(t * lp_training.log_beta_2)) / -expm1(t * lp_training.log_beta_1);
}

fn lp_adam(weights: u32, gradient: vec4<f32>, rate: f32) {
    // Far below any gradient that matters, far above subnormal numbers, which some devices are slow with.
    let tiny = 1e-30;
    let at = 2u * weights;
    let m = fma(vec4<f32>(lp_training.beta_1), lp_moments[at], (1.0 - lp_training.beta_1) * gradient);
    let v = fma(vec4<f32>(lp_training.beta_2), lp_moments[at + 1u], (1.0 - lp_training.beta_2) * gradient * gradient + tiny);
    lp_moments[at] = select(m, vec4<f32>(), abs(m) < vec4<f32>(tiny));
    lp_moments[at + 1u] = v;
    lp_weights[weights] -= rate * m * inverseSqrt(v + lp_training.guard);
}

// Gradients of the weights, 8 units x 4 inputs a tile, and their step; the tiles of all layers in one row.
fn lp_learn(step: u32, local: u32) {
    let rate = lp_rate(step);
    for (var tile = local; tile < LP_TILES; tile += LP_GROUP) {
        let layer = lp_layer_of(tile);
        let k = (tile - layer.tile) % layer.width;
        let unit = (tile - layer.tile) / layer.width * 8u;
        var low = mat4x4<f32>();
        var high = mat4x4<f32>();
        for (var column = 0u; column < lp_task.columns; column++) {
            let inputs = transpose(lp_four(layer.input + 4u * k, column));
            low = lp_add(low, inputs, lp_four(layer.gradient + unit, column));
            high = lp_add(high, inputs, lp_four(layer.gradient + unit + 4u, column));
        }
        let at = lp_at + layer.start + unit * layer.width + k;
        lp_adam(at, low[0], rate);
        if unit + 1u < layer.n_out { lp_adam(at + layer.width, low[1], rate); }
        if unit + 2u < layer.n_out { lp_adam(at + 2u * layer.width, low[2], rate); }
        if unit + 3u < layer.n_out { lp_adam(at + 3u * layer.width, low[3], rate); }
        if unit + 4u < layer.n_out { lp_adam(at + 4u * layer.width, high[0], rate); }
        if unit + 5u < layer.n_out { lp_adam(at + 5u * layer.width, high[1], rate); }
        if unit + 6u < layer.n_out { lp_adam(at + 6u * layer.width, high[2], rate); }
        if unit + 7u < layer.n_out { lp_adam(at + 7u * layer.width, high[3], rate); }
    }
}

// Adds up the loss, and at the end of an epoch counts it as stalled where it does not better the best by `tol`, as scikit-learn does.
fn lp_watch(network: u32, step: u32) {
    let batch = step % lp_task.n_batches;
    let n = f32(lp_first_place(batch + 1u) - lp_first_place(batch));
    var squares = 0.0;
    for (var column = 0u; column < lp_task.columns; column++) {
        let error = n * lp_rows[lp_place(LP_OUTPUT.gradient, column)];
        squares += dot(error, error);
    }
    var progress = lp_progress[network];
    progress.loss += 0.5 * squares;
    if batch + 1u == lp_task.n_batches {
        let loss = progress.loss / f32(lp_task.n_points);
        let is_first = step < lp_task.n_batches;
        progress.stalled = select(0u, progress.stalled + 1u, !is_first && loss > progress.best - lp_training.tol);
        progress.best = select(min(progress.best, loss), loss, is_first);
        progress.stopped = u32(progress.stalled > lp_training.patience);
        progress.loss = 0.0;
    }
    lp_progress[network] = progress;
}

@compute @workgroup_size(LP_GROUP)
fn lp_main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    lp_zero = lp_training.zero;
    lp_at = group.x * LP_NET_WEIGHTS;
    lp_task = lp_tasks[group.x];
    let watched = lp_training.schedule == LP_CONSTANT;
    let end = min(lp_training.first + lp_training.n_steps, lp_tasks[group.x].n_steps);
    for (var step = lp_training.first; step < end; step++) {
        if watched {
            if local == 0u {
                lp_stopped = lp_progress[group.x].stopped;
            }
            if workgroupUniformLoad(&lp_stopped) != 0u {
                break;
            }
        }
        lp_load(step, local);
        lp_layers(step, local);
        lp_learn(step, local);
        if watched && local == 0u {
            lp_watch(group.x, step);
        }
        storageBarrier();
    }
}
