"""The variables of a login's environment that programs must not see, and the sh text that removes them. No I/O.

A user's start-up files set variables for the user's own work: `SQUEUE_PARTITION=long` hides jobs from squeue,
`POSIXLY_CORRECT` and `TAR_OPTIONS` change options and output. A program that the gateway reads must not see them. The
programs that hand their environment on to a job (sbatch, srun) keep it, but for what changes their own answer.
"""

from __future__ import annotations

from typing import Final

# Variables that say where the scheduler is: kept, though they begin like those below.
KEPT: Final = (
    "SLURM_CONF",
    "SLURM_CONF_SERVER",
    "SLURM_JWT",
    "PBS_CONF_FILE",
    "PBS_DEFAULT",
    "PBS_EXEC",
    "PBS_HOME",
    "PBS_SERVER",
)
# Beginnings of names. Slurm's clients read defaults of their options from variables named after them; perl's change
# which modules it loads and how it reads and writes.
CLEARED_PREFIXES: Final = (
    "SLURM_",
    "SQUEUE_",
    "SACCT_",
    "SCANCEL_",
    "SCONTROL_",
    "SINFO_",
    "SPRIO_",
    "SREPORT_",
    "SSHARE_",
    "SSTAT_",
    "SACCTMGR_",
    "SDIAG_",
    "PBS_",
    "PERL",
)
CLEARED: Final = (
    # GNU programs: POSIX behaviour, units, quotes, colours
    "POSIXLY_CORRECT",
    "_POSIX2_VERSION",
    "BLOCK_SIZE",
    "BLOCKSIZE",
    "DF_BLOCK_SIZE",
    "DU_BLOCK_SIZE",
    "FIND_BLOCK_SIZE",
    "LS_BLOCK_SIZE",
    "LS_COLORS",
    "QUOTING_STYLE",
    "TIME_STYLE",
    "TABSIZE",
    "COLUMNS",
    "CP_PRESERVE",
    "VERSION_CONTROL",
    "SIMPLE_BACKUP_SUFFIX",
    "GREP_OPTIONS",
    "GREP_COLOR",
    "GREP_COLORS",
    "MAGIC",  # of file(1)
    # tar and compressors
    "TAR_OPTIONS",
    "TAPE",
    "TAR_READER_OPTIONS",
    "TAR_WRITER_OPTIONS",
    "GZIP",
    "BZIP",
    "BZIP2",
    "XZ_OPT",
    "XZ_DEFAULTS",
    "ZSTD_CLEVEL",
    "ZSTD_NBTHREADS",
    "LZ4_CLEVEL",
    "LZ4_NBWORKERS",
    # shells that a program starts (with -p, bash ignores functions, too)
    "BASH_ENV",
    "ENV",
    "CDPATH",
    "GLOBIGNORE",
    # languages and time: LC_ALL is C, TZ is the login node's own
    "LANGUAGE",
    "TZ",
    "TZDIR",
    # the dynamic loader prints into the output of every program
    "LD_BIND_NOW",
    "LD_DEBUG",
    "LD_SHOW_AUXV",
    "LD_VERBOSE",
    "LD_WARN",
)
# Defaults of sbatch and srun that change which cluster gets the job, or what these print, return and wait for. Others
# (account, partition, time limit …) are the user's own choice. docs/operators/logins.md lists both.
CLEARED_FOR_JOBS: Final = (
    "SBATCH_CLUSTERS",
    "SLURM_CLUSTERS",
    "SBATCH_CLUSTER_CONSTRAINT",
    "SLURM_CLUSTER_CONSTRAINT",
    "SLURM_WORKING_CLUSTER",
    "SBATCH_ARRAY_INX",  # one job becomes many
    "SBATCH_WAIT",
    "SBATCH_TEST_ONLY",
    "SBATCH_DEBUG",
    "SRUN_DEBUG",
    "SLURM_DEBUG",
    "SLURM_EXIT_ERROR",
    "SLURM_EXIT_IMMEDIATE",
)

_PATTERNS: Final = "|".join(f"{prefix}*" for prefix in CLEARED_PREFIXES)
# With SHLVL the bash of a script knows that it is not the login shell, which would run .bashrc.
# The names to remove are collected once, from the words of `export -p`. A word that is not a variable but part of a
# value does no harm: a variable of that name does not exist, or is to be removed.
FUNCTIONS: Final = (
    "SHLVL=1; export SHLVL; set -f; fc_names=; "
    "for fc_word in $(export -p); do fc_word=${fc_word%%=*}; case $fc_word in "
    f'*[!A-Za-z0-9_]*|{"|".join(KEPT)}) ;; {_PATTERNS}) fc_names="$fc_names $fc_word" ;; esac; done; '
    f"fc_program() {{ unset $fc_names {' '.join(CLEARED)} fc_names fc_word; LC_ALL=C; export LC_ALL; }}; "
    f"fc_job() {{ unset {' '.join(CLEARED_FOR_JOBS)} fc_names fc_word; }}"
)
CLEAN_FOR_PROGRAM: Final = "fc_program"
CLEAN_FOR_JOB: Final = "fc_job"
