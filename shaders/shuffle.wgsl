// A random order of n things, of which any invocation finds any place by itself: nothing is stored or sent.

// Hash of a word (Wellons' lowbias32).
fn lp_mixed(word: u32) -> u32 {
    var x = word;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    return x ^ (x >> 16u);
}

// Which of the numbers below `n` comes at place `i` of the order that the key names.
//
// A Feistel network on a grid of `side` by ceil(n / side) cells: each round moves one coordinate around by a hash of the other, which can be undone, so it is
// a permutation of the cells. Those beyond n are walked through (Black and Rogaway 2002); there are fewer than `side`, 1 to 2^16, so the walk ends.
fn lp_shuffled(i: u32, n: u32, side: u32, key: vec4<u32>) -> u32 {
    let length = (n - 1u) / side + 1u;
    var cell = i;
    for (var walk = 0u; walk < side; walk++) {
        var row = cell / length;
        var column = cell % length;
        for (var round = 0u; round < 4u; round++) {
            row = (row + lp_mixed(column ^ key[round]) % side) % side;
            column = (column + lp_mixed(row ^ ~key[round]) % length) % length;
        }
        cell = row * length + column;
        if cell < n {
            break;
        }
    }
    return cell;
}
