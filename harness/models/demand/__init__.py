"""What models demand of a machine: operations, seconds and memory, before anything is loaded.

`devices`: named GPUs from their data sheets, and this machine, measured. `shapes`: a model's dimensions, as far as they
are known. `loads`: what one model does in a stage, with its operations and seconds. `training`: the same of a training,
with what its processes hold.
"""
