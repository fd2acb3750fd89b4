"""The same steps in eager PyTorch, as plain equations, for bench_cuda: python3 bench/cuda_torch.py > torch.csv"""
import torch


def median(f, repeats=30):
    times = []
    for i in range(repeats + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        f(i)
        end.record()
        end.synchronize()
        if i >= 3:
            times.append(1e3 * begin.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def adam(R, M, V, t, b1=0.9, b2=0.999, eps=1e-8):
    M.mul_(b1).add_(R, alpha=1 - b1)
    V.mul_(b2).addcmul_(R, R, value=1 - b2)
    return M / (1 - b1**t) / ((V / (1 - b2**t)).sqrt() + eps)


def main():
    for m, n in ((4096, 4096), (4096, 11008)):
        for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
            count = max(2, (256 << 20) // (m * n * torch.finfo(dtype).bits // 8))
            W = [1e-3 * torch.randn(m, n, device="cuda").to(dtype) for _ in range(count)]
            G = [1e-3 * torch.randn(m, n, device="cuda").to(dtype) for _ in range(count)]
            M, V = torch.zeros(m, n, device="cuda"), torch.zeros(m, n, device="cuda")
            dense = lambda i: W[i % count].add_(adam(G[i % count].float(), M, V, i + 1).to(dtype), alpha=-1e-4)
            print(f"adamw {m}x{n} {name},{median(dense):.1f}", flush=True)
            for r in (128, 512):
                P = torch.linalg.qr(torch.randn(m, r, device="cuda"))[0].to(dtype)
                M, V = torch.zeros(r, n, device="cuda"), torch.zeros(r, n, device="cuda")

                def galore(i):
                    N = adam((P.T @ G[i % count]).float(), M, V, i + 1)
                    W[i % count].add_(P @ N.to(dtype), alpha=-1e-4)

                print(f"galore {m}x{n} r{r} {name},{median(galore):.1f}", flush=True)
                svd = median(lambda i: torch.linalg.svd(G[i % count].float(), full_matrices=False), repeats=1)
                print(f"galore {m}x{n} r{r} {name} refresh,{svd:.1f}", flush=True)


main()
