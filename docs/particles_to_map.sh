#!/usr/bin/env bash
# From particles to a table of occupancies, to selected particles, to a new map: RELION and OccuPy, in one go.
#
#   bash particles_to_map.sh PARTICLES.star REFERENCE.mrc MODEL REGION THRESHOLD
#
# PARTICLES.star  particles with orientations; run this in the folder its image paths are relative to
# REFERENCE.mrc   their consensus map
# MODEL           atomic model in the map's frame
# REGION          a chain of it, for example L18
# THRESHOLD       occupancy from which a class counts as having it, for example 0.5
#
# Environment: CLASSES (4), ITERATIONS (25), DIAMETER in Å (300), THREADS (2), INI_HIGH in Å (40), SEED (1).
# Needs RELION 3.1 or newer. Writes Class3D/job001, classes/, selected.star, selected.mrc.
set -euo pipefail
particles=$1 reference=$2 model=$3 region=$4 threshold=$5
last=$(printf '%03d' "${ITERATIONS:-25}")
job=Class3D/job001

# 1. Classify without alignment.
mkdir -p "$job"
relion_refine --i "$particles" --o "$job/run" --ref "$reference" --ini_high "${INI_HIGH:-40}" --ctf \
    --K "${CLASSES:-4}" --iter "${ITERATIONS:-25}" --tau2_fudge 4 --particle_diameter "${DIAMETER:-300}" \
    --flatten_solvent --zero_mask --skip_align --norm --scale --pad 1 --j "${THREADS:-2}" --pool 30 \
    --preread_images --dont_combine_weights_via_disc --random_seed "${SEED:-1}" > "$job/run.out"

# 2. What is there in each class? One row per chain, one column per class, with standard errors.
occupy classes "$job" --model "$model" -o classes

# 3. The particles of the classes that have the region.
occupy select classes --particles "$job/run_it${last}_data.star" --region "$region" --present "$threshold" \
    -o selected.star

# 4. Their reconstruction.
relion_reconstruct --i selected.star --o selected.mrc --ctf --pad 1 > selected.log
printf 'new map: selected.mrc\n'
