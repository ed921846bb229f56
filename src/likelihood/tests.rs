//! Every form of likelihood, every way it can fail, and the threads it runs on.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Mutex;

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis};

use super::evaluate::evaluate;
use super::*;
use crate::backend::CpuPool;
use crate::batch::Evaluated;
use crate::rng::Stream;

/// theta = 10 u, with one more column that is fixed.
fn transform(u: ArrayView2<f64>, mut theta: ArrayViewMut2<f64>) -> Result<(), Infallible> {
    theta.fill(7.0);
    for (mut theta, u) in theta.rows_mut().into_iter().zip(u.rows()) {
        theta.iter_mut().zip(u).for_each(|(theta, u)| *theta = 10.0 * u);
    }
    Ok(())
}

fn names() -> Vec<String> {
    ["x", "period", "jitter"].map(String::from).to_vec()
}

fn unit_points(n: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, 2), |(i, j)| Stream::new(11).substream(j as u64).at(i as u64).uniform())
}

fn log_l(theta: &[f64]) -> f64 {
    -(theta[0] - 3.0).powi(2).sin() - theta[1].ln() * theta[2]
}

fn run(likelihood: &Likelihood, n: usize, threads: usize) -> Result<Evaluated, EvaluationError> {
    let pool = CpuPool::new(threads, "likelihood").unwrap();
    evaluate(transform, likelihood, unit_points(n).view(), &names(), &pool)
}

fn expected(n: usize) -> Vec<f64> {
    unit_points(n).rows().into_iter().map(|u| log_l(&[10.0 * u[0], 10.0 * u[1], 7.0])).collect()
}

/// A likelihood as a type of the user's own.
struct Own {
    names: Vec<String>,
    split: bool,
}

impl VectorizedLikelihood for Own {
    fn log_likelihood(&self, theta: ArrayView2<f64>, mut out: ArrayViewMut1<f64>) -> Result<(), LikelihoodError> {
        out.iter_mut().zip(theta.rows()).for_each(|(out, row)| *out = log_l(&row.to_vec()));
        Ok(())
    }
    fn derived_names(&self) -> &[String] {
        &self.names
    }
    fn split_batches(&self) -> bool {
        self.split
    }
}

#[test]
#[allow(clippy::redundant_closure, reason = "a closure without annotation is one of the forms")]
fn every_form_gives_the_same_bits_for_any_number_of_threads() {
    let rows = |theta: &ArrayView2<f64>| theta.rows().into_iter().map(|x| log_l(&x.to_vec())).collect::<Vec<f64>>();
    let forms: Vec<(&str, Likelihood)> = vec![
        ("vec", Likelihood::batch(move |theta: ArrayView2<f64>| rows(&theta))),
        ("array", Likelihood::batch(|theta: ArrayView2<f64>| theta.map_axis(Axis(1), |x| log_l(&x.to_vec())))),
        ("no annotation", Likelihood::batch(|theta| theta.map_axis(Axis(1), |x| log_l(&x.to_vec())))),
        ("batch, text error", Likelihood::batch(move |theta: ArrayView2<f64>| Ok::<_, String>(rows(&theta)))),
        (
            "batch, own error",
            Likelihood::batch(move |theta: ArrayView2<f64>| -> Result<Array1<f64>, std::io::Error> {
                Ok(Array1::from(rows(&theta)))
            }),
        ),
        (
            "batch, library error",
            Likelihood::batch(move |theta: ArrayView2<f64>| Ok::<_, LikelihoodError>(rows(&theta))),
        ),
        ("point", Likelihood::point(|theta: &[f64]| log_l(theta))),
        ("point, function", Likelihood::point(log_l)),
        ("point, no annotation", Likelihood::point(|theta| log_l(theta))),
        ("point, text error", Likelihood::point(|theta: &[f64]| Ok::<f64, &str>(log_l(theta)))),
        (
            "point, boxed error",
            Likelihood::point(|theta: &[f64]| -> Result<f64, Box<dyn std::error::Error + Send + Sync>> {
                let text = log_l(theta).to_string();
                Ok(text.parse()?)
            }),
        ),
        ("own", Likelihood::new(Own { names: vec![], split: true })),
        ("own, from", Own { names: vec!["unwritten".into()], split: false }.into()),
        ("whole", Likelihood::batch(move |theta: ArrayView2<f64>| rows(&theta)).whole_batches()),
        ("whole point", Likelihood::point(log_l).whole_batches()),
        (
            "batch derived",
            Likelihood::batch_derived(["a"], move |theta: ArrayView2<f64>, _: ArrayViewMut2<f64>| rows(&theta)),
        ),
        ("point derived", Likelihood::point_derived(["a"], |theta: &[f64], _: &mut [f64]| log_l(theta))),
    ];
    for (name, likelihood) in forms {
        for n in [1, 3, 101] {
            let one = run(&likelihood, n, 1).unwrap();
            assert_eq!(one.log_l.to_vec(), expected(n), "{name}");
            assert_eq!(one.derived.dim(), (n, likelihood.derived_names().len()), "{name}");
            assert!(one.derived.iter().all(|value| value.is_nan()), "{name}");
            assert_eq!(run(&likelihood, n, 2).unwrap().log_l, one.log_l, "{name}");
        }
        assert_eq!(run(&likelihood, 0, 2).unwrap().log_l.len(), 0, "{name}");
    }
}

#[test]
fn derived_values_come_back_row_for_row() {
    let point = Likelihood::point_derived(["sum", "first"], |theta: &[f64], derived: &mut [f64]| {
        derived[0] = theta.iter().sum();
        if theta[0] > 5.0 {
            derived[1] = theta[0];
        }
        -1.0
    });
    let batch = Likelihood::batch_derived(
        vec!["sum".to_owned(), "first".to_owned()],
        |theta: ArrayView2<f64>, mut derived: ArrayViewMut2<f64>| {
            derived.column_mut(0).assign(&theta.sum_axis(Axis(1)));
            for (theta, mut derived) in theta.rows().into_iter().zip(derived.rows_mut()) {
                if theta[0] > 5.0 {
                    derived[1] = theta[0];
                }
            }
            vec![-1.0; theta.nrows()]
        },
    );
    let u = unit_points(50);
    for likelihood in [point.clone(), point.whole_batches(), batch.clone(), batch.whole_batches()] {
        assert_eq!(likelihood.derived_names(), ["sum", "first"]);
        let derived = run(&likelihood, 50, 2).unwrap().derived;
        for (row, u) in derived.rows().into_iter().zip(u.rows()) {
            assert!((row[0] - (10.0 * u[0] + 10.0 * u[1] + 7.0)).abs() < 1e-12);
            assert!(if u[0] > 0.5 { row[1] == 10.0 * u[0] } else { row[1].is_nan() });
        }
        // Without derived values, the trait itself still works.
        let mut log_l = Array1::zeros(2);
        likelihood.host.as_deref().unwrap().log_likelihood(Array2::ones((2, 3)).view(), log_l.view_mut()).unwrap();
        assert_eq!(log_l.to_vec(), [-1.0, -1.0]);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no spectrum at {0}")]
struct Missing(f64);

#[test]
fn an_error_of_the_user_keeps_its_type_and_names_the_point() {
    let bad = unit_points(60)[[40, 0]] * 10.0;
    let point =
        Likelihood::point(move |theta: &[f64]| if theta[0] == bad { Err(Missing(theta[0])) } else { Ok(log_l(theta)) });
    for threads in [1, 2] {
        let error = run(&point, 60, threads).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("the likelihood failed at row 40 of the batch (x = "), "{text}");
        assert!(text.contains("period = ") && text.contains("jitter = 7.0): no spectrum at "), "{text}");
        let EvaluationError::Likelihood { place, source: LikelihoodError::Failed { row: Some(_), source } } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!((place.rows, place.parameters[0].clone()), (40..41, ("x".to_owned(), bad)));
        assert_eq!(source.downcast_ref::<Missing>().unwrap().0, bad);
    }
    let batch = Likelihood::batch(move |theta: ArrayView2<f64>| {
        if theta.column(0).iter().any(|&x| x == bad) { Err("no data") } else { Ok(vec![0.0; theta.nrows()]) }
    });
    let text = run(&batch, 60, 2).unwrap_err().to_string();
    assert!(text.starts_with("the likelihood failed on rows 30 to 59 of the batch (the first has x = "), "{text}");
    let batch = Likelihood::batch(move |theta: ArrayView2<f64>| match theta.column(0).iter().position(|&x| x == bad) {
        Some(row) => Err(LikelihoodError::at_row(row, "no data")),
        None => Ok(vec![0.0; theta.nrows()]),
    });
    let text = run(&batch, 60, 2).unwrap_err().to_string();
    assert!(text.starts_with("the likelihood failed at row 40 of the batch (x = "), "{text}");
    // A row that does not exist is not believed.
    let lies = Likelihood::batch(|_: ArrayView2<f64>| Err::<Vec<f64>, _>(LikelihoodError::at_row(1000, "no data")));
    assert!(run(&lies, 60, 2).unwrap_err().to_string().contains("on rows 0 to 29 of"));
}

#[test]
fn a_panic_becomes_an_error_with_its_message() {
    let bad = unit_points(60)[[40, 0]] * 10.0;
    let panics = move |x: f64| {
        assert!(x != bad, "lost the star at {x}");
        0.0
    };
    let point = Likelihood::point(move |theta: &[f64]| panics(theta[0]));
    let batch = Likelihood::batch(move |theta: ArrayView2<f64>| theta.map_axis(Axis(1), |x| panics(x[0])));
    for likelihood in [point.clone(), point.whole_batches(), batch.clone(), batch.whole_batches()] {
        let error = run(&likelihood, 60, 2).unwrap_err();
        assert!(
            matches!(&error, EvaluationError::Likelihood { place, source: LikelihoodError::Panicked { message, .. } }
                if place.rows.contains(&40) && message.starts_with("lost the star")),
            "{error}"
        );
    }
    let nonsense = Likelihood::point(|_: &[f64]| -> f64 { std::panic::panic_any(3) });
    let text = run(&nonsense, 2, 1).unwrap_err().to_string();
    assert!(text.contains("at row 0") && text.contains("no text"), "{text}");
}

#[test]
fn the_pool_lives_on_after_a_panic() {
    let pool = CpuPool::new(2, "likelihood").unwrap();
    let u = unit_points(20);
    let broken = Likelihood::point(|_: &[f64]| -> f64 { panic!("broken") });
    assert!(evaluate(transform, &broken, u.view(), &names(), &pool).is_err());
    let good = evaluate(transform, &Likelihood::point(log_l), u.view(), &names(), &pool).unwrap();
    assert_eq!(good.log_l.to_vec(), expected(20));
}

#[test]
fn wrong_lengths_are_counted() {
    let short = Likelihood::batch(|theta: ArrayView2<f64>| vec![0.0; theta.nrows() - 1]);
    let text = run(&short, 60, 2).unwrap_err().to_string();
    assert!(text.contains("it returned 29 values for 30 points; return one log L per row"), "{text}");
    let text = run(&short.whole_batches(), 60, 2).unwrap_err().to_string();
    assert!(text.contains("it returned 59 values for 60 points"), "{text}");
}

/// NaN at two points, +inf at one, -inf at one.
fn strange() -> Likelihood {
    let u = unit_points(60);
    let at = [17, 33, 34, 50].map(|row| 10.0 * u[[row, 0]]);
    let value = move |x: f64| match at.iter().position(|&bad| bad == x) {
        Some(0) => f64::NEG_INFINITY,
        Some(1) => f64::NAN,
        Some(2) => f64::INFINITY,
        Some(_) => -f64::NAN,
        None => -x,
    };
    Likelihood::batch(move |theta: ArrayView2<f64>| theta.map_axis(Axis(1), |row| value(row[0])))
}

#[test]
fn nan_and_plus_infinity_are_an_error_that_names_the_parameters() {
    for threads in [1, 2] {
        let error = run(&strange(), 60, threads).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("log L is NaN at row 33 of the batch (x = "), "{text}");
        assert!(text.contains("period = ") && text.contains("jitter = 7.0)"), "{text}");
        assert!(text.contains("NonFinite::Reject"), "{text}");
    }
    let infinite = Likelihood::point(|_: &[f64]| f64::INFINITY);
    let text = run(&infinite, 60, 2).unwrap_err().to_string();
    assert!(text.starts_with("log L is inf at row 0 of the batch"), "{text}");
}

#[test]
fn nan_and_plus_infinity_can_be_rejected_and_counted() {
    for likelihood in [strange(), strange().whole_batches()] {
        let evaluated = run(&likelihood.non_finite(NonFinite::Reject), 60, 2).unwrap();
        assert_eq!(evaluated.n_non_finite, 3);
        let impossible: Vec<usize> = (0..60).filter(|&i| evaluated.log_l[i] == f64::NEG_INFINITY).collect();
        assert_eq!(impossible, [17, 33, 34, 50]);
    }
}

#[test]
fn a_row_that_is_not_written_is_noticed() {
    struct Lazy;
    impl VectorizedLikelihood for Lazy {
        fn log_likelihood(&self, _: ArrayView2<f64>, mut out: ArrayViewMut1<f64>) -> Result<(), LikelihoodError> {
            out[0] = 0.0;
            Ok(())
        }
    }
    let text = run(&Lazy.into(), 10, 1).unwrap_err().to_string();
    assert!(text.starts_with("log L is NaN at row 1"), "{text}");
}

#[test]
fn failures_of_the_transform_are_told_apart() {
    let pool = CpuPool::new(2, "likelihood").unwrap();
    let u = unit_points(10);
    for likelihood in [Likelihood::point(log_l), Likelihood::point(log_l).whole_batches()] {
        let error = evaluate(|_, _| Err("no quantile"), &likelihood, u.view(), &names(), &pool).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("the prior transform failed on rows 0 to ") && text.ends_with(": no quantile"),
            "{text}"
        );
        let error = evaluate(|_, _| -> Result<(), String> { panic!("oh") }, &likelihood, u.view(), &names(), &pool);
        assert!(error.unwrap_err().to_string().ends_with("it panicked: oh"));
    }
}

/// The threads that call `make`'s likelihood on a pool of two.
fn threads_of(make: impl FnOnce(Arc<Mutex<HashSet<String>>>) -> Likelihood) -> Vec<String> {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    run(&make(seen.clone()), 64, 2).unwrap();
    let mut seen: Vec<String> = seen.lock().unwrap().drain().collect();
    seen.sort();
    seen
}

fn note(seen: &Mutex<HashSet<String>>) {
    seen.lock().unwrap().insert(std::thread::current().name().unwrap_or("unnamed").to_owned());
    // Long enough for the other thread to take its share.
    std::thread::sleep(std::time::Duration::from_millis(20));
}

#[test]
fn work_is_spread_over_the_threads_of_the_likelihood_pool() {
    let both = ["livepoint-likelihood-0", "livepoint-likelihood-1"];
    let point = |seen: Arc<Mutex<_>>| {
        Likelihood::point(move |_: &[f64]| {
            note(&seen);
            0.0
        })
    };
    let batch = |seen: Arc<Mutex<_>>| {
        Likelihood::batch(move |theta: ArrayView2<f64>| {
            note(&seen);
            vec![0.0; theta.nrows()]
        })
    };
    assert_eq!(threads_of(point), both);
    assert_eq!(threads_of(batch), both);
    assert_eq!(threads_of(|seen| batch(seen).whole_batches()).len(), 1);
    // rayon inside a whole batch finds the threads of our pool, not the global one.
    let nested = |seen: Arc<Mutex<_>>| {
        Likelihood::batch(move |theta: ArrayView2<f64>| {
            assert_eq!(rayon::current_num_threads(), 2);
            rayon::join(|| note(&seen), || note(&seen));
            vec![0.0; theta.nrows()]
        })
    };
    assert_eq!(threads_of(|seen| nested(seen).whole_batches()), both);
}

#[test]
fn batches_are_cut_as_documented() {
    let sizes = |likelihood: fn(Arc<Mutex<Vec<usize>>>) -> Likelihood| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        run(&likelihood(seen.clone()), 101, 2).unwrap();
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        seen
    };
    fn counting(seen: Arc<Mutex<Vec<usize>>>) -> Likelihood {
        Likelihood::batch(move |theta: ArrayView2<f64>| {
            seen.lock().unwrap().push(theta.nrows());
            vec![0.0; theta.nrows()]
        })
    }
    assert_eq!(sizes(counting), [50, 51]);
    assert_eq!(sizes(|seen| counting(seen).whole_batches()), [101]);
}

fn burn(seconds: f64) {
    let start = cpu_time::ThreadTime::now();
    while start.elapsed().as_secs_f64() < seconds {
        std::hint::spin_loop();
    }
}

#[test]
fn cpu_time_is_summed_over_threads_without_the_transform() {
    let slow_transform = |u: ArrayView2<f64>, theta: ArrayViewMut2<f64>| {
        burn(0.01 * u.nrows() as f64);
        transform(u, theta)
    };
    let point = Likelihood::point(|_: &[f64]| {
        burn(0.01);
        0.0
    });
    let whole = Likelihood::batch(|theta: ArrayView2<f64>| {
        rayon::join(|| burn(0.08), || burn(0.08));
        vec![0.0; theta.nrows()]
    })
    .whole_batches();
    let pool = CpuPool::new(2, "likelihood").unwrap();
    for (name, likelihood) in [("point", point), ("whole", whole)] {
        let u = unit_points(16);
        let cpu = evaluate(slow_transform, &likelihood, u.view(), &names(), &pool).unwrap().likelihood_cpu_s;
        // Upper side: the transform's 0.16 s must not be in it; the rest is room for the clock and for idle spinning.
        assert!((0.15..0.24).contains(&cpu), "{name}: {cpu} s");
    }
}

#[test]
fn cpu_time_of_a_stolen_piece_is_counted_once() {
    use super::evaluate::exclusive_cpu;
    // What a thread does that waits for rayon inside one piece and takes two others meanwhile.
    let ((first, second), outer) = exclusive_cpu(|| {
        let ((), first) = exclusive_cpu(|| burn(0.04));
        burn(0.02);
        (first, exclusive_cpu(|| burn(0.03)).1)
    });
    let ((), later) = exclusive_cpu(|| burn(0.01));
    for (cpu, expected) in [(first, 0.04), (second, 0.03), (outer, 0.02), (later, 0.01)] {
        assert!((expected - 0.001..expected + 0.008).contains(&cpu), "{cpu} s instead of {expected} s");
    }
}
