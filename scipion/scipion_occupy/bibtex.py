"""References that Scipion shows for the protocols."""

_bibtexStr = """
@article{forsberg2023,
  title = {A robust normalized local filter to estimate compositional heterogeneity directly from
           cryo-EM maps},
  author = {Forsberg, Bj{\\"o}rn O. and Shah, Pranav N. M. and Burt, Alister},
  journal = {Nature Communications},
  year = {2023},
  doi = {10.1038/s41467-023-41478-1}
}
"""
