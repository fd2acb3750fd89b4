"""The same steps in eager PyTorch, as plain equations, for bench_cuda: python3 bench/cuda_torch.py > torch.csv

With --smoke on small matrices, and without a GPU on the CPU: whether it runs, not how fast.
"""
import sys
import time

import torch

smoke = "--smoke" in sys.argv
device = "cuda" if torch.cuda.is_available() else "cpu"
if device == "cpu" and not smoke:
    sys.exit("no CUDA device; --smoke runs the equations on the CPU")


def timed(f, i):
    """Microseconds, by events on the stream."""
    if device == "cpu":
        begin = time.perf_counter()
        f(i)
        return 1e6 * (time.perf_counter() - begin)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    f(i)
    end.record()
    end.synchronize()
    return 1e3 * begin.elapsed_time(end)


def median(f, repeats=30):
    times = [timed(f, i) for i in range(repeats + 3)][3:]
    return sorted(times)[len(times) // 2]


def adam(R, M, V, t, b1=0.9, b2=0.999, eps=1e-6):
    """GaLore's: eps on the raw moment."""
    M.mul_(b1).add_(R, alpha=1 - b1)
    V.mul_(b2).addcmul_(R, R, value=1 - b2)
    return M / (V.sqrt() + eps) * ((1 - b2**t) ** 0.5 / (1 - b1**t))


def gradients(m, n, count, dtype):
    """As bench_cuda's: singular values fall as i^-1/2, the same in every copy, and a tenth of noise."""
    s = min(1024, m)
    weight = torch.arange(1, s + 1, device=device).float() ** -0.5
    signal = torch.randn(m, s, device=device) * weight @ torch.randn(s, n, device=device)
    signal *= 1e-3 / weight.norm()
    return [(signal + 3e-4 * torch.randn(m, n, device=device)).to(dtype) for _ in range(count)]


def main():
    shapes, ranks = (((4096, 4096), (4096, 11008)), (128, 512)) if not smoke else (((64, 64), (64, 172)), (8, 16))
    for m, n in shapes:
        for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
            count = max(2, (256 << 20) // (m * n * torch.finfo(dtype).bits // 8)) if not smoke else 2
            W = [1e-3 * torch.randn(m, n, device=device).to(dtype) for _ in range(count)]
            G = gradients(m, n, count, dtype)
            M, V = torch.zeros(m, n, device=device), torch.zeros(m, n, device=device)

            def dense(i):
                W[i % count].add_(adam(G[i % count].float(), M, V, i + 1).to(dtype), alpha=-1e-4)

            print(f"adamw {m}x{n} {name},{median(dense):.1f}", flush=True)
            for r in ranks:
                P = torch.linalg.qr(torch.randn(m, r, device=device))[0].to(dtype)
                M, V = torch.zeros(r, n, device=device), torch.zeros(r, n, device=device)

                def galore(i):
                    N = adam((P.T @ G[i % count]).float(), M, V, i + 1)
                    W[i % count].add_(P @ N.to(dtype), alpha=-1e-4)

                print(f"galore {m}x{n} r{r} {name},{median(galore):.1f}", flush=True)
                svd = median(lambda i: torch.linalg.svd(G[i % count].float(), full_matrices=False), repeats=1)
                print(f"galore {m}x{n} r{r} {name} refresh,{svd:.1f}", flush=True)


main()
