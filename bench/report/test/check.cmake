# cmake -DREPORT=<bench_report> -DBENCH=<bench_gemm> -DFROM=<this folder> -DTO=<folder to write> -P check.cmake
# The report of recorded results says what follows from them, and the report of results just measured has their rows.
file(REMOVE_RECURSE ${TO})
file(COPY ${FROM}/json DESTINATION ${TO}/recorded)
file(MAKE_DIRECTORY ${TO}/measured/json)

function(run)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE text ERROR_VARIABLE error RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "${ARGN}: ${failed}\n${text}${error}")
  endif()
endfunction()
function(expect file)
  file(READ ${file} text)
  foreach(part IN LISTS ARGN)
    string(FIND "${text}" "${part}" at)
    if(at EQUAL -1)
      message(FATAL_ERROR "${file} lacks: ${part}\n${text}")
    endif()
  endforeach()
endfunction()

run(${REPORT} ${TO}/recorded)
expect(${TO}/recorded/table.md
  # medians of 95 and 40 ms; 8 GFLOP need 80 and 40 ms
  "| galore_r128/4096x4096/rows | 95.0 / 40.0 | 84 / 200 | 2.1 / 5.0 | 84 / 100 |"
  "eigen 2.00 / 1.50, eigen_default_tuning 3.00 / 3.00, onednn 0.80 / 1.00"
  "85 / 80 % of the roof: 84 / 100, **missed / met**"
  "1.80 x eigen: 2.00 / 1.50, **met / missed**"
  "1.00 x onednn: 0.80 / 1.00, **missed / met**"
  # 4 GFLOP need 40 ms, and what waits for them 1 + 2
  "| apollo_r128/4096x4096/rows | 50.0 / - | 80 / - | 4.8 / - | 86 / - |"
  # 470 MB in 10 and 8 ms, of 80 and 100 GB/s
  "90 % of streaming: 59 / 59, **missed**"
  "4 met, 5 missed"
  "compiler and flags: g++ 12; -O3"
  "oneDNN 2.6.3"
  # 60 of 40 ms and 120 of 60 ms
  "eigen 2.00 times as long as on free cores, lowrank 1.50 times as long as on free cores"
  "1 thread: 100 GFLOP/s, read 40.0 GB/s, update in place 80.0 GB/s")
expect(${TO}/recorded/rows.csv "galore_r128/4096x4096/rows,onednn,1,76," "adamw/4096x4096/rows,lowrank,2,8,")
expect(${TO}/recorded/roofline.svg "galore_r128/4096x4096/rows, 1 thread: 84 % of the roof")
run(${REPORT} ${TO}/recorded --before ${TO}/recorded --targets)
expect(${TO}/recorded/table.md "before, times as long" "| 84 / 100 | 1.00 / 1.00 |")

run(${BENCH} --work --benchmark_min_time=0.001 --benchmark_repetitions=2 --benchmark_enable_random_interleaving=true
    "--benchmark_filter=^project_r32/1024x1024/[^/]*/threads:" --benchmark_out=${TO}/measured/json/gemm.json)
run(${REPORT} ${TO}/measured)
expect(${TO}/measured/table.md "| project_r32/1024x1024 | " "eigen ")
expect(${TO}/measured/rows.csv "project_r32/1024x1024,lowrank,1,")
