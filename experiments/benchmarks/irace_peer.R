# irace beside a target that lives in another process: Rscript irace_peer.R parameters forbidden port budget seed digits
# instance ...
suppressMessages(library(irace))
given <- commandArgs(trailingOnly = TRUE)
params <- readParameters(given[1], digits = as.integer(given[6]))
con <- socketConnection("127.0.0.1", as.integer(given[3]), blocking = TRUE, open = "r+", timeout = 86400)
shown <- function(x) if (is.na(x)) "NA" else if (is.numeric(x))
  format(x, digits = 15, scientific = FALSE, trim = TRUE) else as.character(x)
pairs <- function(configuration) {
  values <- sapply(configuration, shown)
  paste(names(values), values, sep = "=")
}
batch <- function(experiments, exec.target.runner, scenario, target.runner) {
  for (e in experiments)
    writeLines(paste(c(e$id.configuration, e$instance, e$seed, pairs(e$configuration)), collapse = "\t"), con)
  writeLines("END", con)
  flush(con)
  cost <- as.numeric(readLines(con, n = length(experiments)))
  stopifnot(length(cost) == length(experiments))
  lapply(cost, function(z) list(cost = z, time = NA_real_))
}
scenario <- list(targetRunner = function(experiment, scenario) stop("unused"), targetRunnerParallel = batch,
                 instances = given[-(1:6)], maxExperiments = as.integer(given[4]), seed = as.integer(given[5]),
                 digits = as.integer(given[6]), logFile = "")
if (given[2] != "none") scenario$forbiddenFile <- given[2]
result <- irace(scenario = defaultScenario(scenario), parameters = params)
writeLines(paste(c("BEST", pairs(result[1, params$names])), collapse = "\t"), con)
writeLines("QUIT", con)
close(con)
